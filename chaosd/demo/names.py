"""A name server of one zone and a resolver that remembers (RFC 1035, A records over UDP)."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from socketserver import BaseRequestHandler, UDPServer

from chaosd.demo.settings import Settings

_HEADER = struct.Struct("!6H")
_ANSWER, _NO_SUCH_NAME = 0x8180, 0x8183
_A, _IN, _TTL = 1, 1, 1
_TRIES = 2


class _Question(BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        data, end = self.request
        if len(data) < _HEADER.size:
            return
        number, asked = _HEADER.unpack_from(data)[0], data[_HEADER.size :]
        address = self.server.zone.get(_name(asked))
        flags = _ANSWER if address else _NO_SUCH_NAME
        answer = _HEADER.pack(number, flags, 1, 1 if address else 0, 0, 0) + asked
        if address:
            # 0xc00c: the name that stands after the header (RFC 1035, 4.1.4)
            answer += struct.pack("!3HIH", 0xC00C, _A, _IN, _TTL, 4) + socket.inet_aton(address)
        end.sendto(answer, self.client_address)


class _Server(UDPServer):
    def __init__(self, address: tuple[str, int], zone: dict[str, str]) -> None:
        self.zone = zone
        super().__init__(address, _Question)


def server(host: str, settings: Settings, zone: dict[str, str]) -> UDPServer:
    """The name server, listening; ``zone`` is addresses by name."""
    return _Server((host, settings.names_port), zone)


class Resolver:
    """Asks one name server, and goes on with the last answer when it has none.

    Args:
        server: its address and port.
        timeout: seconds to wait for each of two tries.
        age: seconds for which an answer is used without asking again.
    """

    def __init__(self, server: tuple[str, int], *, timeout: float, age: float) -> None:
        self._server, self._timeout, self._age = server, timeout, age
        self._known: dict[str, tuple[float, str]] = {}
        self._numbers = itertools.count(1)

    def address(self, name: str) -> str:
        """The address of a name.

        Raises:
            OSError: there is no answer, and never was one.
        """
        until, kept = self._known.get(name, (0.0, ""))
        if time.monotonic() < until:
            return kept
        try:
            kept = self._ask(name)
        except OSError:
            if not kept:
                raise
        self._known[name] = (time.monotonic() + self._age, kept)
        return kept

    def _ask(self, name: str) -> str:
        number = next(self._numbers) % 65536
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", _A, _IN)
        with socket.socket(type=socket.SOCK_DGRAM) as end:
            end.settimeout(self._timeout)
            end.connect(self._server)
            for _ in range(_TRIES):
                end.send(question)
                try:
                    return _address(end.recv(512), number)
                except TimeoutError:
                    continue
        raise TimeoutError(f"no name server answers about {name}")


def _address(answer: bytes, number: int) -> str:
    came, flags, _, answers, *_ = _HEADER.unpack_from(answer)
    if came != number or flags & 0xF or not answers:
        raise OSError(f"the name server says no (code {flags & 0xF})")
    return socket.inet_ntoa(answer[-4:])


def _name(question: bytes) -> str:
    labels, at = [], 0
    while at < len(question) and question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
        at += 1 + question[at]
    return ".".join(labels)
