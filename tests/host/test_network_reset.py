"""network.reset: which connections break, what both ends see, and which stay."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
import traffic
import world
from injecting import RUN, applied, everything, planned, process
from traffic import TCP, likely, sock

from chaosd.errors import ChaosdError
from chaosd.faults.base import Planning
from chaosd.faults.network_reset import NetworkReset
from chaosd.kernel import edit
from chaosd.kernel.capability_network import RESET
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.edit import Undo
from chaosd.kernel.match import Filters, Rule
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.reset import Reset
from chaosd.kernel.tasks import Members
from chaosd.targets.model import Target
from chaosd.units import Duration, Percent

PORT, OTHER = 7001, 7002
HERE, AWAY = ("127.0.0.1", "::1", "::ffff:127.0.0.1"), ("10.99.1.2", "fd99:1::2")

_CLIENT = """
import errno, socket, sys
ends = []
print("up", flush=True)
for line in sys.stdin:
    what, *words = line.split()
    if what == "open":
        address, port, count = words
        for _ in range(int(count)):
            ends.append(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
            ends[-1].settimeout(20)
            ends[-1].connect((address, int(port)))
            ends[-1].send(b"x"); ends[-1].recv(1)
        print("ok", flush=True)
    else:
        said = []
        for end in ends:
            try:
                end.send(b"x")
                said.append(end.recv(1).decode() or "closed")
            except OSError as error:
                said.append(errno.errorcode[error.errno])
        print(" ".join(said), flush=True)
        for end in ends:
            end.close()
        ends.clear()
"""

Child = subprocess.Popen[str]


def ask(child: Child, *words: object) -> list[str]:
    """What a child says to an order."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(" ".join(map(str, words)) + "\n")
    return child.stdout.readline().split()


class Two:
    """Two clients in one namespace, and echo servers there and at the end of a wire."""

    def __init__(self, ns: NetnsRef, away: NetnsRef, target: Child, neighbor: Child) -> None:
        self.ns, self.away, self.target, self.neighbor = ns, away, target, neighbor

    def open(self, address: str, port: int = PORT, count: int = 1) -> None:
        for child in (self.target, self.neighbor):
            assert ask(child, "open", address, port, count) == ["ok"]


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


def counted(edits: list[edit.Edit]) -> tuple[int, int, dict[str, int]]:
    """What the one edit of a reset has counted."""
    [found] = [e for one in edits if (e := one.evidence()) is not None]
    assert found.unit == "connections"
    return found.matched, found.injected, found.skipped


@pytest.mark.parametrize("address", [*HERE, *AWAY])
def test_the_target_s_connections_break_and_its_neighbor_s_do_not(two: Two, address: str) -> None:
    two.open(address, count=3)
    two.open(address, OTHER)
    edits = planned(NetworkReset(ports=[PORT]), process(two.target.pid, two.ns))
    with applied(edits):
        assert ask(two.target, "say") == ["ECONNABORTED"] * 3 + ["x"]
        assert ask(two.neighbor, "say") == ["x"] * 4
        assert ask(two.target, "open", address, PORT, 2) == ["ok"]
        assert ask(two.target, "say") == ["x"] * 2
        assert counted(edits) == (3, 3, {})


@pytest.mark.parametrize("by", ["pid", "cgroup"])
def test_the_peer_gets_a_reset(two: Two, by: str) -> None:
    with world.cgroup() as cg, world.spawn(world.python(_CLIENT), ns=two.ns, cg=cg) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        alone = Target("cgroup:test", cgroups={"": cg}, netns=two.ns)
        with sock(two.away, TCP, "10.99.1.2") as server:
            server.bind(("10.99.1.2", 7003))
            server.listen()
            assert ask(two.neighbor, "open", "10.99.1.2", OTHER, 1) == ["ok"]
            assert child.stdin is not None
            child.stdin.write("open 10.99.1.2 7003 1\n")
            peer, _ = server.accept()
            peer.settimeout(20)
            peer.send(peer.recv(1))
            assert child.stdout.readline() == "ok\n"
        target = process(child.pid, two.ns) if by == "pid" else alone
        with peer, applied(planned(NetworkReset(), target)), pytest.raises(ConnectionResetError):
            peer.recv(1)
        assert ask(child, "say") == ["ECONNABORTED"]
    assert ask(two.neighbor, "say") == ["x"]


_SERVER = """
import socket, sys
server = socket.create_server(("::", 7005), family=socket.AF_INET6, dualstack_ipv6=True)
print("up", flush=True)
first, _ = server.accept()
first.sendall(first.recv(1))
second, _ = server.accept()
second.sendall(second.recv(1))
sys.stdin.read()
"""


def test_connections_that_the_target_has_accepted_break_but_its_listener_does_not(two: Two) -> None:
    with world.spawn(world.python(_SERVER), ns=two.ns) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        for child in (two.target, two.neighbor):
            assert ask(child, "open", "127.0.0.1", 7005, 1) == ["ok"]
        edits = planned(NetworkReset(), process(server.pid, two.ns))
        with applied(edits):
            assert ask(two.target, "say") == ask(two.neighbor, "say") == ["ECONNRESET"]
            assert counted(edits) == (2, 2, {})
        with sock(two.ns, TCP) as late:
            late.connect(("::1", 7005))


def test_of_a_whole_namespace_every_connection_breaks_but_the_operator_s(two: Two) -> None:
    two.open("10.99.1.2")
    two.open("fd99:1::2", count=2)
    edits = planned(NetworkReset(source_ports=["10000-65535"]), everything(two.ns), operator=("10.99.1.2",))
    with applied(edits):
        for child in (two.target, two.neighbor):
            assert ask(child, "say") == ["x", "ECONNABORTED", "ECONNABORTED"]
        assert counted(edits) == (4, 4, {})


def test_of_a_host_the_connections_of_spared_processes_stay(two: Two) -> None:
    """What stands for the host here is the cgroup that both clients are in, the root."""
    two.open("127.0.0.1")
    everybody = CgroupRef.at(str(world.cgroup_root()))
    who = Members(everybody, entire=True, spared=(ProcessRef.of(two.neighbor.pid),))
    edits: list[edit.Edit] = [Reset(RUN, 0, two.ns, who, Filters(ports=((PORT, PORT),)), Rule(1))]
    with applied(edits):
        assert ask(two.target, "say") == ["ECONNABORTED"]
        assert ask(two.neighbor, "say") == ["x"]
        assert counted(edits) == (1, 1, {})


def test_filters_by_network(two: Two) -> None:
    two.open("10.99.1.2")
    two.open("fd99:1::2")
    two.open("127.0.0.1")
    fault = NetworkReset(cidrs=["10.0.0.0/8", "127.0.0.0/8"], exclude=["127.0.0.1"])
    with applied(planned(fault, process(two.target.pid, two.ns))):
        assert ask(two.target, "say") == ["ECONNABORTED", "x", "x"]


def test_a_share_and_a_budget(two: Two) -> None:
    two.open("127.0.0.1", count=101)
    target = process(two.target.pid, two.ns)
    edits = planned(NetworkReset(percent=Percent(30)), target)
    with applied(edits):
        matched, injected, skipped = counted(edits)
        assert (matched, skipped) == (101, {"probability": 101 - injected})
        assert injected in likely(101, 0.3)
        assert ask(two.target, "say").count("ECONNABORTED") == injected
    two.open("127.0.0.1", count=10)
    edits = planned(NetworkReset(budget=4), target)
    with applied(edits):
        assert counted(edits) == (10, 4, {"budget": 6})
        assert ask(two.target, "say").count("ECONNABORTED") == 4


def test_again_and_again_while_the_engine_gives_signs_of_life(two: Two) -> None:
    edits = planned(NetworkReset(every=Duration(0.2)), process(two.target.pid, two.ns))
    with applied(edits):
        for round_ in (1, 2):
            two.open("127.0.0.1")
            time.sleep(0.25)
            edits[0].renew(time.clock_gettime(time.CLOCK_BOOTTIME) + 2)
            assert ask(two.target, "say") == ["ECONNABORTED"]
            assert ask(two.neighbor, "say") == ["x"]
            assert counted(edits)[1] == round_
        two.open("127.0.0.1")
        time.sleep(0.25)
        edits[0].renew(0)
        assert ask(two.target, "say") == ["x"]


def test_it_says_that_it_cannot_be_undone(two: Two) -> None:
    world.need(RESET)
    target = process(two.target.pid, two.ns)
    assert "cannot be undone" in NetworkReset().effect(target, Planning(RUN, 0, 1, "destroy", 60.0))[0]
    [made] = planned(NetworkReset(), target)
    assert edit.from_data(edit.to_data(made)) == made
    assert made.irreversible
    made.apply()
    assert made.revert() is Undo.NEVER
    assert not made.present()
    assert made.revert() is Undo.NEVER


def test_an_interface_has_no_connections_of_its_own(two: Two) -> None:
    with world.netns() as far, world.veth(two.ns, far, net=2) as (near, _):
        alone = Target("dev:x", device=near, netns=two.ns)
        with pytest.raises(ChaosdError, match="no processes of its own"):
            list(NetworkReset().plan(alone, Planning(RUN, 0, 1, "destroy", 60.0)))


@pytest.mark.parametrize(
    "fault",
    [
        NetworkReset(protocol="udp"),
        NetworkReset(direction="both"),
        NetworkReset(of="flows"),
        NetworkReset(every=Duration(0.01)),
        NetworkReset(percent=Percent(0)),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(fault: NetworkReset) -> None:
    assert len(fault.check()) == 1
