"""network.connection_limit: how many connections come through, what becomes of the others, and whose."""

from __future__ import annotations

import errno
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import traffic
import world
from injecting import Injection, everything, injected, lease, process
from traffic import TCP, sock

from chaosd.faults.network_connection_limit import NetworkConnectionLimit
from chaosd.kernel.capability_network import CONNECT
from chaosd.kernel.netns import NetnsRef
from chaosd.units import Duration, Percent

PORT, OTHER = 7001, 7002
REFUSED, SILENT = "ECONNREFUSED", "EAGAIN"
LONG = Duration(600)
HERE, AWAY = "127.0.0.1", "10.99.1.2"

_CLIENT = """
import errno, os, socket, sys
print("up", flush=True)
for line in sys.stdin:
    address, port, count, patience = line.split()
    said = []
    for _ in range(int(count)):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as end:
            end.settimeout(float(patience))
            said.append(errno.errorcode.get(end.connect_ex((address, int(port))), "ok"))
    print(" ".join(said), flush=True)
"""

Child = subprocess.Popen[str]


def ask(child: Child, address: str, count: int, *, port: int = PORT, patience: float = 20) -> Counter[str]:
    """What comes of ``count`` connections that a child tries one after the other."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{address} {port} {count} {patience}\n")
    return Counter(child.stdout.readline().split())


def tries(ns: NetnsRef, address: str, count: int, patience: float = 20) -> Counter[str]:
    """The same from a namespace."""
    said: Counter[str] = Counter()
    for _ in range(count):
        with sock(ns, TCP, address) as end:
            end.settimeout(patience)
            said[errno.errorcode.get(end.connect_ex((address, PORT)), "ok")] += 1
    return said


def spared(run: Injection) -> tuple[int, int, dict[str, int], str]:
    """The counts of a run."""
    found = run.evidence
    return found.matched, found.injected, found.skipped, found.unit


class Two:
    """Two clients in one namespace, and servers there and at the end of a wire."""

    def __init__(self, ns: NetnsRef, away: NetnsRef, target: Child, neighbor: Child) -> None:
        self.ns, self.away, self.target, self.neighbor = ns, away, target, neighbor


@pytest.fixture
def two() -> Iterator[Two]:
    with (
        world.netns() as left,
        world.netns() as right,
        world.veth(left, right),
        traffic.echo(left, PORT, OTHER),
        traffic.echo(right, PORT, OTHER),
        world.spawn(world.python(_CLIENT), ns=left) as target,
        world.spawn(world.python(_CLIENT), ns=left) as neighbor,
    ):
        for child in (target, neighbor):
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
        yield Two(left, right, target, neighbor)


def limited(limit: int, window: float = LONG, **fields: object) -> NetworkConnectionLimit:
    """A limit on connections to one port."""
    return NetworkConnectionLimit(limit=limit, window=Duration(window), ports=[PORT], **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["cgroup", "gate"])
@pytest.mark.parametrize("address", [HERE, "::1", AWAY, "fd99:1::2"])
def test_ten_connections_in_a_minute_come_through(two: Two, mechanism: str, address: str) -> None:
    fault = limited(10, 60, mechanism=mechanism)
    with injected(fault, process(two.target.pid, two.ns)) as run:
        assert ask(two.target, address, 25) == {"ok": 10, REFUSED: 15}
        assert ask(two.target, address, 5, port=OTHER) == {"ok": 5}
        assert ask(two.neighbor, address, 15) == {"ok": 15}
        assert spared(run) == (25, 15, {"limit": 10}, "calls" if mechanism == "cgroup" else "connections")
    assert ask(two.target, address, 5) == {"ok": 5}


def test_the_others_fail_with_any_errno(two: Two) -> None:
    with injected(limited(2, errno="EADDRNOTAVAIL"), process(two.target.pid, two.ns)):
        assert ask(two.target, HERE, 5) == {"ok": 2, "EADDRNOTAVAIL": 3}


@pytest.mark.parametrize("address", [HERE, AWAY])
def test_the_others_can_be_left_without_an_answer(two: Two, address: str) -> None:
    with injected(limited(3, action="drop"), process(two.target.pid, two.ns)) as run:
        assert ask(two.target, address, 5, patience=0.5) == {"ok": 3, SILENT: 2}
        assert ask(two.neighbor, address, 4) == {"ok": 4}
        assert spared(run) == (5, 2, {"limit": 3}, "connections")


def test_what_was_dropped_is_sent_again_into_the_next_window(two: Two) -> None:
    """A SYN is sent again after a second, and then after two: as with any limit on packets."""
    with injected(limited(1, 0.8, action="drop"), process(two.target.pid, two.ns)) as run:
        begun = time.monotonic()
        assert ask(two.target, AWAY, 2) == {"ok": 2}
        assert 0.9 < time.monotonic() - begun < 10
        assert run.evidence.injected == 1


@pytest.mark.parametrize("action", ["refuse", "drop"])
@pytest.mark.parametrize("address", [HERE, "::1", AWAY, "fd99:1::2"])
def test_connections_to_a_whole_namespace(two: Two, action: str, address: str) -> None:
    """From far and, where it has no other interface, from near."""
    fault = NetworkConnectionLimit(limit=4, window=LONG, action=action, direction="ingress")  # type: ignore[arg-type]
    far = address not in (HERE, "::1")
    with injected(fault, everything(two.away)) as run:
        said = tries(two.ns if far else two.away, address, 6, 20 if action == "refuse" else 0.5)
        assert said == ({"ok": 4, REFUSED if action == "refuse" else SILENT: 2} if far else {"ok": 6})
        assert spared(run) == ((6, 2, {"limit": 4}, "connections") if far else (0, 0, {}, "connections"))


_SERVER = """
import socket, sys
ends = [socket.create_server(("::", 7005), family=socket.AF_INET6, dualstack_ipv6=True)]
print("up", flush=True)
while True: ends.append(ends[0].accept()[0])
"""


@pytest.mark.parametrize("address", [HERE, "::1", "10.99.1.1", "fd99:1::1"])
def test_connections_to_one_process(two: Two, address: str) -> None:
    fault = NetworkConnectionLimit(limit=2, window=LONG, direction="ingress")
    with world.spawn(world.python(_SERVER), ns=two.ns) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        with injected(fault, process(server.pid, two.ns)) as run:
            child = two.neighbor
            assert ask(child, address, 5, port=7005) == {"ok": 2, REFUSED: 3}
            assert ask(child, address, 5) == {"ok": 5}
            assert spared(run) == (5, 3, {"limit": 2}, "connections")


def test_each_window_has_its_own(two: Two) -> None:
    with injected(limited(5, 1.0), process(two.target.pid, two.ns)) as run:
        begun = time.monotonic()
        ok = 0
        while time.monotonic() - begun < 3.5:
            ok += ask(two.target, HERE, 10)["ok"]
        windows = run.evidence.skipped["limit"] / 5
        assert ok == run.evidence.skipped["limit"]
        assert 3 <= windows <= time.monotonic() - begun + 1


def test_the_limit_is_exact_with_many_at_once(two: Two) -> None:
    """Threads on all processors, while one window ends and the next begins."""
    world.need(CONNECT)
    code = """
import socket, threading
def tries():
    for _ in range(300):
        with socket.socket() as end:
            counts.append(end.connect_ex(("127.0.0.1", 7001)))
counts = []
input()
threads = [threading.Thread(target=tries) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(counts.count(0), flush=True)
"""
    with (
        world.spawn(world.python(code), ns=two.ns) as child,
        injected(limited(777), process(child.pid, two.ns)) as run,
    ):
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdin.write("\n")
        assert child.stdout.readline() == "777\n"
        assert spared(run) == (2400, 2400 - 777, {"limit": 777}, "calls")


def test_a_share_and_a_budget_of_what_is_over(two: Two) -> None:
    fault = limited(10, percent=Percent(50), budget=5)
    with injected(fault, process(two.target.pid, two.ns)) as run:
        assert ask(two.target, HERE, 60) == {"ok": 55, REFUSED: 5}
        found = run.evidence
        assert found.skipped["limit"] == 10
        assert found.skipped["probability"] + found.skipped["budget"] == 45


def test_when_the_lease_ends_there_is_no_limit(two: Two) -> None:
    with injected(limited(1), process(two.target.pid, two.ns)) as run:
        lease(-1)
        assert ask(two.target, HERE, 3) == {"ok": 3}
        assert run.evidence.skipped == {"lease": 3}


@pytest.mark.parametrize(
    "fault",
    [
        limited(1, 0.001),
        limited(1, protocol="udp"),
        limited(1, of="flows"),
        limited(1, mechanism="cgroup", direction="ingress"),
        limited(1, mechanism="cgroup", action="drop"),
        limited(1, errno="EINTR"),
        limited(1, errno="EPERM", action="drop"),
        limited(1, errno="EPERM", mechanism="gate"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(fault: NetworkConnectionLimit) -> None:
    assert len(fault.check()) == 1
