"""One process in a namespace it shares: it alone is hit, with its children and what it accepts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import traffic
import world
from injecting import injected, process

from chaosd.faults.network_delay import NetworkDelay
from chaosd.faults.network_loss import NetworkLoss
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.netns import NetnsRef
from chaosd.targets.model import Target
from chaosd.units import Duration, Percent

pytestmark = pytest.mark.alone  # it measures times

DELAY = 100
PORT = 7001
ADDRESSES = ("127.0.0.1", "::1", "10.99.1.2", "fd99:1::2")

_CLIENT = """
import os, socket, sys, time
def trip(kind, address, port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as end:
        end.settimeout(20); end.connect((address, port)); end.send(b"x"); end.recv(1)
        begun = time.monotonic(); end.send(b"x"); end.recv(1)
        return (time.monotonic() - begun) * 1000
old = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
old.settimeout(20); old.connect(("10.99.1.2", 7001)); old.send(b"x"); old.recv(1)
print("up", flush=True)
for line in sys.stdin:
    what, kind, address, count = line.split()
    kind = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    if what == "fork":
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, str(trip(kind, address, 7001)).encode()); os._exit(0)
        print(os.read(read, 100).decode(), flush=True); os.wait()
    elif what == "old":
        begun = time.monotonic(); old.send(b"x"); old.recv(1)
        print((time.monotonic() - begun) * 1000, flush=True)
    elif what == "count":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.connect((address, 7001))
            for _ in range(int(count)): end.send(b"x")
            end.settimeout(1); got = 0
            try:
                while True: got += len(end.recv(1))
            except TimeoutError: pass
        print(got, flush=True)
    else:
        print(trip(kind, address, 7001), flush=True)
"""

Child = subprocess.Popen[str]


def ask(child: Child, what: str, kind: str = "tcp", address: str = "10.99.1.2", count: int = 0) -> float:
    """Milliseconds of a round trip, or a number of answers, as a child measures it."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{what} {kind} {address} {count}\n")
    return float(child.stdout.readline())


class Two:
    """Two clients in one namespace, and echo servers there and at the end of a wire."""

    def __init__(self, ns: NetnsRef, cg: CgroupRef, target: Child, neighbor: Child) -> None:
        self.ns, self.cg, self.target, self.neighbor = ns, cg, target, neighbor

    def aimed(self, by: str) -> Target:
        if by == "pid":
            return process(self.target.pid, self.ns)
        return Target("cgroup:test", cgroups={"": self.cg}, netns=self.ns)


@pytest.fixture
def two() -> Iterator[Two]:
    with (
        world.netns() as left,
        world.netns() as right,
        world.veth(left, right),
        world.cgroup() as cg,
        traffic.echo(left, PORT),
        traffic.echo(right, PORT),
        world.spawn(world.python(_CLIENT), ns=left, cg=cg) as target,
        world.spawn(world.python(_CLIENT), ns=left) as neighbor,
    ):
        for child in (target, neighbor):
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
        yield Two(left, cg, target, neighbor)


def slow(taken: float, times: int = 1) -> bool:
    return DELAY * times * 0.98 < taken < DELAY * times + 60


@pytest.mark.parametrize("by", ["pid", "cgroup"])
@pytest.mark.parametrize(("direction", "times"), [("egress", 1), ("ingress", 1), ("both", 2)])
def test_the_target_is_slow_and_its_neighbor_is_not(two: Two, by: str, direction: str, times: int) -> None:
    fault = NetworkDelay(delay=Duration(DELAY / 1000), direction=direction)  # type: ignore[arg-type]
    with injected(fault, two.aimed(by)):
        for kind in ("tcp", "udp"):
            for address in ADDRESSES:
                assert slow(ask(two.target, "new", kind, address), times), (kind, address)
                assert ask(two.neighbor, "new", kind, address) < 60, (kind, address)
        assert slow(ask(two.target, "old"), times)
        assert ask(two.neighbor, "old") < 60
        assert slow(ask(two.target, "fork"), times)
        assert ask(two.neighbor, "fork") < 60
    assert ask(two.target, "new") < 60
    assert ask(two.target, "old") < 60


@pytest.mark.parametrize("by", ["pid", "cgroup"])
def test_packets_are_counted_on_both(two: Two, by: str) -> None:
    fault = NetworkLoss(percent=Percent(100), budget=37, protocol="udp")
    with injected(fault, two.aimed(by)) as run:
        assert ask(two.neighbor, "count", address="127.0.0.1", count=101) == 101
        assert run.evidence.matched == 0
        assert ask(two.target, "count", address="127.0.0.1", count=101) == 101 - 37
        assert (run.evidence.matched, run.evidence.injected) == (101, 37)


_SERVER = """
import socket, threading
def answer(end):
    while data := end.recv(65536): end.sendall(data)
def serve(end):
    while True: threading.Thread(target=answer, args=(end.accept()[0],), daemon=True).start()
tcp = socket.create_server(("::", 7005), family=socket.AF_INET6, dualstack_ipv6=True)
print("up", flush=True)
serve(tcp)
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_connections_accepted_by_the_target_are_hit_handshake_and_all(two: Two, address: str) -> None:
    with world.spawn(world.python(_SERVER), ns=two.ns) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        fault = NetworkDelay(delay=Duration(DELAY / 1000))
        with injected(fault, process(server.pid, two.ns)):
            assert slow(traffic.round_trip(two.ns, traffic.TCP, address, 7005) * 1000)
            assert slow(traffic.first_answer(two.ns, address, 7005) * 1000, 2)
            assert traffic.round_trip(two.ns, traffic.TCP, address, PORT) * 1000 < 60


_BOTH_ENDS = """
import socket, sys, threading, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 7006))
def serve():
    while True:
        data, peer = udp.recvfrom(100); udp.sendto(data, peer)
threading.Thread(target=serve, daemon=True).start()
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); end.connect(("127.0.0.1", 7006)); end.settimeout(20)
print("up", flush=True)
for line in sys.stdin:
    begun = time.monotonic(); end.send(b"x"); end.recv(1)
    print((time.monotonic() - begun) * 1000, flush=True)
"""


@pytest.mark.parametrize(("direction", "times"), [("egress", 1), ("ingress", 1), ("both", 2)])
def test_a_target_that_talks_to_itself_is_delayed_once(two: Two, direction: str, times: int) -> None:
    with world.spawn(world.python(_BOTH_ENDS), ns=two.ns) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        fault = NetworkDelay(delay=Duration(DELAY / 1000), direction=direction)  # type: ignore[arg-type]
        with injected(fault, process(child.pid, two.ns)):
            child.stdin.write("go\n")
            assert slow(float(child.stdout.readline()), times)
