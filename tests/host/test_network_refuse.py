"""network.refuse: who gets which error, how often, and who does not."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
import traffic
import world
from injecting import Injection, injected, lease, process
from traffic import likely

from chaosd.faults.network_refuse import NetworkRefuse
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.netns import NetnsRef
from chaosd.targets.model import Target
from chaosd.units import Percent

PORT, OTHER = 7001, 7002

_CLIENT = """
import errno, os, socket, sys
def tries(address, port, count, kind):
    said = []
    for _ in range(count):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as end:
            end.settimeout(10)
            answer = end.connect_ex((address, port))
            said.append(errno.errorcode.get(answer, "ok"))
    return " ".join(said)
print("up", flush=True)
for line in sys.stdin:
    what, address, port, count = line.split()
    kind = socket.SOCK_DGRAM if "udp" in what else socket.SOCK_STREAM
    if "fork" in what:
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, tries(address, int(port), int(count), kind).encode())
            os._exit(0)
        print(os.read(read, 65536).decode(), flush=True)
        os.wait()
    else:
        print(tries(address, int(port), int(count), kind), flush=True)
"""

Child = subprocess.Popen[str]


def ask(child: Child, address: str, port: int, count: int = 1, what: str = "tcp") -> list[str]:
    """The outcome of each of ``count`` connections that a child tries."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{what} {address} {port} {count}\n")
    return child.stdout.readline().split()


class Two:
    """Two clients in one namespace with echo servers on lo; one of them in a cgroup of its own."""

    def __init__(self, ns: NetnsRef, cg: CgroupRef, target: Child, neighbor: Child) -> None:
        self.ns, self.cg, self.target, self.neighbor = ns, cg, target, neighbor

    def aimed(self, by: str) -> Target:
        if by == "pid":
            return process(self.target.pid, self.ns)
        return Target("cgroup:test", cgroups={"": self.cg}, netns=self.ns)


@pytest.fixture
def two() -> Iterator[Two]:
    with (
        world.netns() as ns,
        world.cgroup() as cg,
        traffic.echo(ns, PORT, OTHER),
        world.spawn(world.python(_CLIENT), ns=ns, cg=cg) as target,
        world.spawn(world.python(_CLIENT), ns=ns) as neighbor,
    ):
        for child in (target, neighbor):
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
        yield Two(ns, cg, target, neighbor)


@pytest.mark.parametrize("by", ["pid", "cgroup"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("error", ["ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH"])
def test_the_target_gets_the_error_and_its_neighbor_does_not(
    two: Two, by: str, address: str, error: str
) -> None:
    with injected(NetworkRefuse(errno=error, ports=[PORT]), two.aimed(by)) as run:
        assert ask(two.target, address, PORT, 5) == [error] * 5
        assert ask(two.target, address, OTHER, 5) == ["ok"] * 5
        assert ask(two.neighbor, address, PORT, 5) == ["ok"] * 5
        assert (run.evidence.matched, run.evidence.injected, run.evidence.unit) == (5, 5, "calls")
    assert ask(two.target, address, PORT) == ["ok"]


@pytest.mark.parametrize("by", ["pid", "cgroup"])
def test_a_child_that_is_started_later_is_hit_too(two: Two, by: str) -> None:
    with injected(NetworkRefuse(), two.aimed(by)):
        assert ask(two.target, "127.0.0.1", PORT, 3, "fork") == ["ECONNREFUSED"] * 3
        assert ask(two.neighbor, "127.0.0.1", PORT, 3, "fork") == ["ok"] * 3


def test_a_budget_is_kept_to_the_connection(two: Two) -> None:
    with injected(NetworkRefuse(percent=Percent(50), budget=7), two.aimed("pid")) as run:
        said = Counter(ask(two.target, "127.0.0.1", PORT, 101))
        assert said == {"ECONNREFUSED": 7, "ok": 94}
        assert (run.evidence.matched, run.evidence.injected) == (101, 7)
        assert sum(run.evidence.skipped.values()) == 94


def test_a_share_of_connections(two: Two) -> None:
    with injected(NetworkRefuse(percent=Percent(25)), two.aimed("cgroup")) as run:
        said = Counter(ask(two.target, "127.0.0.1", PORT, 401))
        assert said["ECONNREFUSED"] == run.evidence.injected
        assert said["ECONNREFUSED"] in likely(401, 0.25)


def test_destinations_by_network_and_protocol(two: Two) -> None:
    fault = NetworkRefuse(cidrs=["127.0.0.0/8"], exclude=["127.0.0.3"])
    with injected(fault, two.aimed("pid")):
        assert ask(two.target, "127.0.0.2", PORT) == ["ECONNREFUSED"]
        assert ask(two.target, "::ffff:127.0.0.2", PORT) == ["ECONNREFUSED"]
        assert ask(two.target, "127.0.0.3", PORT) == ["ok"]
        assert ask(two.target, "::1", PORT) == ["ok"]
        assert ask(two.target, "127.0.0.2", PORT, what="udp") == ["ok"]
    with injected(NetworkRefuse(protocol="udp"), two.aimed("pid")):
        assert ask(two.target, "127.0.0.2", PORT, what="udp") == ["ECONNREFUSED"]
        assert ask(two.target, "127.0.0.2", PORT) == ["ok"]


def test_when_the_lease_ends_connections_succeed(two: Two) -> None:
    with injected(NetworkRefuse(), two.aimed("pid")) as run:
        assert ask(two.target, "127.0.0.1", PORT) == ["ECONNREFUSED"]
        lease(-1)
        assert ask(two.target, "127.0.0.1", PORT) == ["ok"]
        assert run.evidence.skipped == {"lease": 1}
        assert _all_present(run)


def _all_present(run: Injection) -> bool:
    return all(edit.present() for edit in run.edits)


@pytest.mark.parametrize(
    "fault",
    [
        NetworkRefuse(errno="EINTR"),
        NetworkRefuse(errno="ENOTANERROR"),
        NetworkRefuse(direction="both"),
        NetworkRefuse(source_ports=[7]),
        NetworkRefuse(ports=[0]),
        NetworkRefuse(ports=["9-8"]),
        NetworkRefuse(cidrs=["10.0.0.0/33"]),
        NetworkRefuse(protocol="http"),
        NetworkRefuse(percent=Percent(0)),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(fault: NetworkRefuse) -> None:
    said = fault.check()
    assert len(said) == 1
    assert "\n" not in said[0]
