"""TCP connections of a network namespace: listed and torn down through sock_diag(7).

pyroute2 lists sockets as well, but tears none down and calls its own interface unfinished; the two
structures that matter are packed here (linux/inet_diag.h).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from chaosd.kernel.netns import NetnsRef, inside

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY, _DESTROY = 20, 21  # linux/sock_diag.h
_REQUEST, _ACK, _DUMP = 1, 4, 0x300  # NLM_F_*
_ERROR, _DONE = 2, 3  # NLMSG_*
_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2, _CLOSE_WAIT = 1, 4, 5, 8  # include/net/tcp_states.h
_OPEN = 1 << _ESTABLISHED | 1 << _FIN_WAIT_1 | 1 << _FIN_WAIT_2 | 1 << _CLOSE_WAIT
"""The states in which at least one side may still send."""

_header = struct.Struct("=IHHII")  # struct nlmsghdr
_request = struct.Struct("=BBBxI48s")  # struct inet_diag_req_v2; the last is a struct inet_diag_sockid
_message = struct.Struct("=Bxxx48s16xI")  # struct inet_diag_msg
_id = struct.Struct("!HH16s16s")
_BUFFER = 1 << 18


class Connection(msgspec.Struct, frozen=True):
    """An open TCP connection, as one end in this namespace has it.

    ``inode`` is that of its socket, as /proc/PID/fd shows it; 0 if no process holds it, as when it waits
    to be accepted. ``identity`` is the kernel's own name of it and never another connection's.
    """

    inode: int
    near: tuple[IPv4Address | IPv6Address, int]
    far: tuple[IPv4Address | IPv6Address, int]
    identity: tuple[int, bytes]


class Diagnosis:
    """A socket for such questions; ``asking`` opens one."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def connections(self) -> list[Connection]:
        """Every open TCP connection, IPv4 and IPv6 (``OSError`` as the kernel says)."""
        found: list[Connection] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            self._send(_BY_FAMILY, _DUMP, (family, _OPEN, bytes(48)))
            found += [_connection(body) for body in self._dump()]
        return found

    def destroy(self, connection: Connection) -> bool:
        """Tear one down; False when it has ended already.

        Its owner gets ECONNABORTED and its peer a reset (net/ipv4/tcp.c: tcp_abort).

        Raises:
            OSError: EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY, and what else it says.
        """
        family, identity = connection.identity
        self._send(_DESTROY, _ACK, (family, _OPEN, identity))
        [(_, body)] = _messages(self._end.recv(_BUFFER))
        return _error(body) != errno.ENOENT

    def _send(self, kind: int, flags: int, what: tuple[int, int, bytes]) -> None:
        family, states, identity = what
        body = _request.pack(family, socket.IPPROTO_TCP, 0, states, identity)
        self._end.send(_header.pack(_header.size + len(body), kind, _REQUEST | flags, 0, 0) + body)

    def _dump(self) -> Iterator[bytes]:
        while True:
            for kind, body in _messages(self._end.recv(_BUFFER)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    _error(body)
                yield body


@contextmanager
def asking(netns: NetnsRef) -> Iterator[Diagnosis]:
    """Ask about the sockets of a namespace (``FileNotFoundError`` if it is gone)."""
    with inside(netns):
        end = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG)
    with end:
        yield Diagnosis(end)


def _messages(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while raw:
        length, kind, *_ = _header.unpack_from(raw)
        yield kind, raw[_header.size : length]
        raw = raw[(length + 3) & ~3 :]


def _error(body: bytes) -> int:
    number = -int.from_bytes(body[:4], "little", signed=True)
    if number not in (0, errno.ENOENT):
        raise OSError(number, f"sock_diag: {os.strerror(number)}")
    return number


def _connection(body: bytes) -> Connection:
    family, identity, inode = _message.unpack_from(body)
    near_port, far_port, near, far = _id.unpack_from(identity)
    size = 4 if family == socket.AF_INET else 16
    ends = ((_plain(near[:size]), near_port), (_plain(far[:size]), far_port))
    return Connection(inode, *ends, (family, identity))


def _plain(raw: bytes) -> IPv4Address | IPv6Address:
    address = ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
