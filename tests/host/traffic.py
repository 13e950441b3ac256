"""Real traffic in throw-away namespaces: echo servers, timed round trips, counted datagrams."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from statistics import median

from chaosd.kernel.netns import NetnsRef, inside
from chaosd.kernel.tracer_rule import mix

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
PATIENCE = 20.0


def sock(ns: NetnsRef, kind: socket.SocketKind, address: str = "::") -> socket.socket:
    """A socket inside a namespace, of the family of an address."""
    with inside(ns):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.settimeout(PATIENCE)
    return made


def _bound(ns: NetnsRef, kind: socket.SocketKind, port: int) -> socket.socket:
    made = sock(ns, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    made.settimeout(None)
    return made


@contextmanager
def echo(ns: NetnsRef, *ports: int) -> Iterator[None]:
    """TCP and UDP echo servers on all addresses of a namespace, both families."""
    with ExitStack() as stack:
        for port in ports:
            tcp, udp = _bound(ns, TCP, port), _bound(ns, UDP, port)
            tcp.listen(128)
            for end, serve in ((tcp, _serve_tcp), (udp, _serve_udp)):
                threading.Thread(target=serve, args=(end,), daemon=True).start()
                stack.callback(_shut, end)
        yield


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
    end.close()


def _serve_udp(end: socket.socket) -> None:
    with suppress(OSError):
        while True:
            data, peer = end.recvfrom(65536)
            if peer:  # the shutdown of the socket looks like a datagram from nobody
                end.sendto(data, peer)


def _serve_tcp(end: socket.socket) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(target=_answer, args=(end.accept()[0],), daemon=True).start()


def _answer(end: socket.socket) -> None:
    with suppress(OSError), end:
        while data := end.recv(1 << 16):
            end.sendall(data)


def round_trip(ns: NetnsRef, kind: socket.SocketKind, address: str, port: int, count: int = 5) -> float:
    """The median time, in seconds, that one byte takes there and back on a standing connection."""
    with sock(ns, kind, address) as end:
        end.connect((address, port))
        taken = []
        for _ in range(count + 1):
            begun = time.monotonic()
            end.send(b"x")
            end.recv(10)
            taken.append(time.monotonic() - begun)
    return median(taken[1:])


def ping(ns: NetnsRef, address: str, count: int = 5) -> float:
    """The median round trip of ICMP echo requests, in seconds."""
    with inside(ns):
        argv = ["ping", "-n", "-i", "0.2", "-c", str(count), "-W", str(round(PATIENCE)), address]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return median(float(found) / 1000 for found in re.findall(r"time=([\d.]+)", done.stdout))


def first_answer(ns: NetnsRef, address: str, port: int, count: int = 5) -> float:
    """The median time, in seconds, from connect() to the first byte of the answer."""

    def once() -> float:
        begun = time.monotonic()
        with sock(ns, TCP, address) as end:
            end.connect((address, port))
            end.send(b"x")
            end.recv(1)
            return time.monotonic() - begun

    return median(once() for _ in range(count))


def delivered(
    sender: NetnsRef,
    receiver: NetnsRef,
    address: str,
    port: int,
    count: int,
    *,
    flows: int = 1,
    pause: float = 0,
) -> list[int]:
    """Numbers of the datagrams that arrived, in order of arrival; number n goes by flow n % flows."""
    with ExitStack() as stack:
        sink = stack.enter_context(_bound(receiver, UDP, port))
        sink.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        sources = [stack.enter_context(sock(sender, UDP, address)) for _ in range(flows)]
        for source in sources:
            source.connect((address, port))
        for number in range(count):
            sources[number % flows].send(struct.pack("=I", number) + bytes(60))
            if pause:
                time.sleep(pause)
        sink.settimeout(1.0)
        return list(_received(sink))


def throughput(
    sender: NetnsRef, receiver: NetnsRef, address: str, port: int, size: int, offered: float
) -> float:
    """Bits per second of UDP payload that arrive when ``offered`` are sent, after 1 s to fill the queues."""
    with _bound(receiver, UDP, port) as sink, sock(sender, UDP, address) as source:
        source.connect((address, port))
        sink.setblocking(False)
        begun, sent, arrived = time.monotonic(), 0, list[float]()
        while (now := time.monotonic() - begun) < 5:
            if sent * size * 8 < offered * now:
                source.send(bytes(size))
                sent += 1
            try:
                sink.recv(1 << 16)
                arrived.append(now)
            except BlockingIOError:
                time.sleep(0.0002)
    counted = [at for at in arrived if at > 1]
    return (len(counted) - 1) * size * 8 / (counted[-1] - counted[0])


def _received(sink: socket.socket) -> Iterator[int]:
    with suppress(TimeoutError):
        while True:
            data, _ = sink.recvfrom(2048)
            yield int(struct.unpack("=I", data[:4])[0])


def answers(ns: NetnsRef, address: str, port: int, count: int) -> int:
    """How many datagrams an echo server sends back for ``count`` sent."""
    with sock(ns, UDP, address) as end:
        end.connect((address, port))
        for _ in range(count):
            end.send(bytes(64))
        end.settimeout(1.0)
        return len(list(_received(end)))


def echoed(ns: NetnsRef, address: str, port: int, sent: bytes) -> bytes:
    """What comes back over TCP from an echo server."""
    with sock(ns, TCP, address) as end:
        end.settimeout(60)
        end.connect((address, port))
        threading.Thread(target=end.sendall, args=(sent,)).start()
        got = b""
        while len(got) < len(sent):
            got += end.recv(1 << 20)
    return got


def likely(count: int, share: float, sigmas: float = 2.6) -> range:
    """How many of ``count`` independent events of this share there are, in 99 of 100 worlds and more.

    Where a seed decides, the test has one world. Where it is another each time (the ports of flows), more
    ``sigmas`` and more events keep the range as narrow: four are left in 6 of 100,000 worlds.
    """
    spread = sigmas * (count * share * (1 - share)) ** 0.5
    return range(max(0, int(count * share - spread)), int(count * share + spread) + 2)


def drawn(seed: int, count: int, share: float) -> int:
    """How many of the first ``count`` packets a seed loses: probes/include/chain.h, with no memory."""
    lost, bad = 0, False
    for number in range(count):
        high = mix(seed ^ mix(number)) / (1 << 64)
        bad = high >= 1 - share if bad else high < share
        lost += bad
    return lost
