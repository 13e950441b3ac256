"""Nothing of a network fault stays: after a revert, by whomever, in whatever order, with strangers about."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest
import traffic
import world
from injecting import applied, around, device, everything, injected, lease, planned, process

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.faults.base import Fault
from chaosd.faults.network_corrupt import NetworkCorrupt
from chaosd.faults.network_delay import NetworkDelay
from chaosd.faults.network_duplicate import NetworkDuplicate
from chaosd.faults.network_loss import NetworkLoss
from chaosd.faults.network_rate import NetworkRate
from chaosd.faults.network_refuse import NetworkRefuse
from chaosd.kernel import bpf, netlink
from chaosd.kernel.edit import Edit, Undo, from_data, to_data
from chaosd.kernel.gate import Gate
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside
from chaosd.kernel.relay import Relay
from chaosd.kernel.sysctl import Sysctl, read
from chaosd.kernel.tc import Clsact, Hook, Ifb
from chaosd.units import Duration, Percent, Rate

PORT = 7001
RIGHT = "10.99.1.2"

Wire = tuple[DeviceRef, DeviceRef]

FAULTS = [
    NetworkDelay(delay=Duration(0.05), direction="both", devices=["lo"]),
    NetworkLoss(percent=Percent(50)),
    NetworkDuplicate(),
    NetworkCorrupt(),
    NetworkRate(rate=Rate(1e6)),
]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two namespaces and a wire."""
    with world.netns() as left, world.netns() as right, world.veth(left, right) as ends:
        yield ends


def tc(ns: NetnsRef, *words: str) -> str:
    with inside(ns):
        return subprocess.run(["tc", *words], check=True, capture_output=True, text=True, timeout=20).stdout


def stranger(device: DeviceRef, parent: str = "egress", prio: int = 900, *, decides: bool = True) -> None:
    """A filter that somebody else puts on an interface; it lets all pass, or leaves that to others."""
    code = f"1,6 0 0 {0xFFFFFFFF if decides else 0},"
    place = ("dev", device.name, parent, "prio", str(prio))
    tc(device.netns, "filter", "add", *place, "bpf", "bytecode", code, "classid", "1:1")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_another_process_that_knows_only_the_journal_puts_everything_back(wire: Wire, fault: Fault) -> None:
    """The engine is killed; a process that reads the edits from JSON reverts them, twice."""
    edits = planned(fault, everything(wire[0].netns))
    before = around(edits)
    engine = os.fork()
    if engine == 0:
        _be_an_engine(edits)
    world.until(lambda: all(edit.present() for edit in edits if _leaves_traces(edit)), "not applied")
    os.kill(engine, signal.SIGKILL)
    os.waitpid(engine, 0)
    read_back = [from_data(msgspec.json.decode(msgspec.json.encode(to_data(edit)))) for edit in edits]
    assert read_back == edits
    for edit in reversed(read_back):
        assert edit.revert() in (Undo.DONE, Undo.GONE)
        assert edit.revert() is Undo.GONE
        assert not edit.present()
    assert around(edits) == before


def _leaves_traces(edit: Edit) -> bool:
    return isinstance(edit, (Clsact, Hook, Ifb, Sysctl))


def _be_an_engine(edits: list[Edit]) -> None:
    for edit in edits:
        edit.apply()
    lease(30)
    while True:
        signal.pause()


def test_when_the_engine_is_killed_traffic_is_fast_again_before_anybody_reverts(wire: Wire) -> None:
    """The lease ends by itself; where a relay held packets, it ends the lease at once."""
    left, right = wire
    edits = planned(NetworkDelay(delay=Duration(0.1)), device(left))
    with traffic.echo(right.netns, PORT):
        engine = os.fork()
        if engine == 0:
            for edit in edits:
                edit.apply()
            while True:
                lease(2)
                time.sleep(0.1)
        try:
            trip = (left.netns, traffic.UDP, RIGHT, PORT, 1)
            world.until(lambda: traffic.round_trip(*trip) > 0.09, "never slow")
        finally:
            os.kill(engine, signal.SIGKILL)
            os.waitpid(engine, 0)
        relayed = any(isinstance(edit, Relay) for edit in edits)
        time.sleep(0.3 if relayed else 2.3)
        assert traffic.round_trip(left.netns, traffic.UDP, RIGHT, PORT) < 0.05
    for edit in reversed(edits):
        edit.revert()
    assert [edit for edit in edits if edit.present()] == []


def test_half_applied_is_reverted_as_well(wire: Wire) -> None:
    edits = planned(NetworkDelay(delay=Duration(0.05), direction="both"), device(wire[0]))
    before = around(edits)
    for count in range(len(edits)):
        for edit in edits[:count]:
            edit.apply()
        for edit in reversed(edits):
            edit.revert()
        assert around(edits) == before


def test_a_filter_that_has_nowhere_to_send_packets_is_not_made(wire: Wire) -> None:
    left, _ = wire
    edits = planned(NetworkDelay(delay=Duration(0.05)), device(left))
    [hook] = [edit for edit in edits if isinstance(edit, Hook)]
    needed = [edit for edit in edits if isinstance(edit, (Clsact, Gate))]
    for edit in needed:
        edit.apply()
    try:
        with pytest.raises(ChaosdError, match="no device chaosd"):
            hook.apply()
        assert not hook.present()
    finally:
        for edit in reversed(needed):
            edit.revert()


def test_a_clsact_that_stands_already_is_used_and_left(wire: Wire) -> None:
    left, _ = wire
    tc(left.netns, "qdisc", "add", "dev", left.name, "clsact")
    stranger(left)
    edits = planned(NetworkLoss(), device(left))
    assert not any(isinstance(edit, Clsact) for edit in edits)
    with applied(edits):
        assert traffic.delivered(left.netns, wire[1].netns, RIGHT, PORT, 3) == []
    assert tc(left.netns, "filter", "show", "dev", left.name, "egress").count("handle") == 1


def test_a_strangers_filter_that_comes_first_is_told_of(wire: Wire) -> None:
    left, _ = wire
    tc(left.netns, "qdisc", "add", "dev", left.name, "clsact")
    stranger(left, prio=1, decides=False)
    edits = planned(NetworkLoss(), device(left))
    assert "behind 1" in next(edit.describe() for edit in edits if isinstance(edit, Hook))
    with applied(edits):
        assert traffic.delivered(left.netns, wire[1].netns, RIGHT, PORT, 3) == []


def test_a_strangers_filter_keeps_the_clsact_we_made(wire: Wire) -> None:
    left, _ = wire
    edits = planned(NetworkLoss(), device(left))
    for edit in edits:
        edit.apply()
    stranger(left, "ingress")
    undone = [edit.revert() for edit in reversed(edits)]
    assert undone[-1] is Undo.FOREIGN
    assert tc(left.netns, "filter", "show", "dev", left.name, "ingress").count("handle") == 1


def test_a_filter_of_a_stranger_in_our_place_is_left_alone(wire: Wire) -> None:
    left, _ = wire
    edits = planned(NetworkLoss(), device(left))
    hook = next(edit for edit in edits if isinstance(edit, Hook))
    tc(left.netns, "qdisc", "add", "dev", left.name, "clsact")
    place = ("dev", left.name, "egress", "prio", str(hook.prio), "handle", hex(hook.handle))
    tc(left.netns, "filter", "add", *place, "bpf", "bytecode", "1,6 0 0 0,", "classid", "1:1")
    assert not hook.present()
    assert hook.revert() is Undo.FOREIGN
    assert tc(left.netns, "filter", "show", "dev", left.name, "egress").count("handle") == 1


def test_an_ingress_qdisc_in_the_way_is_said_before_anything_is_touched(wire: Wire) -> None:
    left, _ = wire
    tc(left.netns, "qdisc", "add", "dev", left.name, "ingress")
    with pytest.raises(ForeignStateError, match="ingress"):
        planned(NetworkLoss(), device(left))


@pytest.mark.parametrize("kind", ["clsact", "ingress"])
def test_a_qdisc_that_somebody_adds_after_the_plan_is_not_taken_over(wire: Wire, kind: str) -> None:
    left, _ = wire
    clsact = next(edit for edit in planned(NetworkLoss(), device(left)) if isinstance(edit, Clsact))
    tc(left.netns, "qdisc", "add", "dev", left.name, kind)
    before = tc(left.netns, "qdisc", "show", "dev", left.name)
    with pytest.raises(ForeignStateError, match=f"has got a {kind} qdisc meanwhile"):
        clsact.apply()
    assert tc(left.netns, "qdisc", "show", "dev", left.name) == before


def test_a_carrier_that_is_lost_is_no_change_and_an_interface_that_is_set_down_is(wire: Wire) -> None:
    left, right = wire
    edits = planned(NetworkLoss(percent=Percent(50)), device(left))
    before = around(edits)
    with inside(right.netns):
        subprocess.run(["ip", "link", "set", right.name, "down"], check=True, timeout=20)
    world.until(lambda: "NO-CARRIER" in ip(left), "the carrier stays")  # the kernel tells a moment later
    assert around(edits) == before
    with inside(left.netns):
        subprocess.run(["ip", "link", "set", left.name, "down"], check=True, timeout=20)
    assert around(edits) != before


def ip(of: DeviceRef) -> str:
    with inside(of.netns):
        command = ["ip", "-o", "link", "show", of.name]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def test_a_root_qdisc_with_classes_stays_as_it_is(wire: Wire) -> None:
    left, _ = wire
    tc(left.netns, "qdisc", "add", "dev", left.name, "root", "handle", "1:", "htb", "default", "10")
    tc(
        left.netns,
        "class",
        "add",
        "dev",
        left.name,
        "parent",
        "1:",
        "classid",
        "1:10",
        "htb",
        "rate",
        "1gbit",
    )
    shown = tc(left.netns, "class", "show", "dev", left.name)
    with traffic.echo(wire[1].netns, PORT):
        with injected(NetworkDelay(delay=Duration(0.05)), device(left)):
            assert traffic.round_trip(left.netns, traffic.TCP, RIGHT, PORT) > 0.049
            assert tc(left.netns, "class", "show", "dev", left.name) == shown
        assert traffic.round_trip(left.netns, traffic.TCP, RIGHT, PORT) < 0.04


def test_a_queue_without_a_length_gets_it_back(wire: Wire) -> None:
    """Docker makes a container's interface so; the kernel puts 1000 when a qdisc is added."""
    left, _ = wire
    with netlink.rtnl(left.netns) as ip:
        ip.set_queue(left.ifindex, 0)
    fault = NetworkDelay(delay=Duration(0.05))
    with injected(fault, device(left)):
        assert length(left) == 1000
    assert length(left) == 0
    [clsact] = [edit for edit in planned(fault, device(left)) if isinstance(edit, Clsact)]
    clsact.apply()
    tc(left.netns, "qdisc", "del", "dev", left.name, "clsact")  # as one that was killed in the middle of it
    assert clsact.revert() is Undo.DONE
    assert length(left) == 0
    assert clsact.revert() is Undo.GONE


def length(of: DeviceRef) -> int:
    with netlink.rtnl(of.netns) as ip:
        link = ip.link(of.ifindex)
    assert link is not None
    return link.queue


def test_an_interface_that_vanishes_is_noticed_and_reverts(wire: Wire) -> None:
    left, right = wire
    edits = planned(NetworkDelay(delay=Duration(0.05)), device(left))
    for edit in edits:
        edit.apply()
    hook = next(edit for edit in edits if isinstance(edit, Hook))
    assert hook.lost() == ""
    with inside(right.netns):
        subprocess.run(["ip", "link", "del", right.name], check=True, timeout=20)
    assert left.name in hook.lost()
    for edit in reversed(edits):
        assert edit.revert() in (Undo.DONE, Undo.GONE)
        assert not edit.present()


def test_a_namespace_that_vanishes_reverts() -> None:
    with world.netns() as ns:
        edits = planned(NetworkLoss(devices=["lo"]), everything(ns))
        for edit in edits:
            edit.apply()
    world.until(lambda: not ns.alive(), "the namespace lives on")
    for edit in reversed(edits):
        assert edit.revert() in (Undo.DONE, Undo.GONE)
        assert not edit.present()
    assert around(edits) == {}


def test_a_namespace_with_the_inode_of_a_dead_one_is_left_alone() -> None:
    """The cookie tells them apart: the dead one's edits do not touch what is the same in the new one."""
    with world.netns() as new:
        if not new.cookie:
            pytest.skip("no cookies before Linux 5.14")
        dead = msgspec.structs.replace(new, cookie=new.cookie + 1)
        assert dead != new
        assert not dead.alive()
        for there, gone in zip(_edits_in(new), _edits_in(dead), strict=True):
            there.apply()
            assert not gone.present()
            assert from_data(to_data(gone)).revert() is Undo.GONE
            assert there.present()


def _edits_in(ns: NetnsRef) -> list[Edit]:
    forward = Sysctl(ns, "net.ipv4.conf.lo.route_localnet", "0", "1")
    return [Clsact(DeviceRef(ns, 1, "lo")), Ifb(ns, "chaosd000000x"), forward]


def test_a_sysctl_that_somebody_else_has_set_since_is_left_alone() -> None:
    with world.netns() as ns:
        name = "net.ipv4.conf.lo.accept_local"
        edit = Sysctl(ns, name, read(ns, name), "1")
        edit.apply()
        assert (edit.present(), edit.revert(), edit.revert()) == (True, Undo.DONE, Undo.GONE)
        edit = Sysctl(ns, "net.ipv4.conf.lo.rp_filter", "0", "1")
        edit.apply()
        with inside(ns):
            subprocess.run(["sysctl", "-qw", "net.ipv4.conf.lo.rp_filter=2"], check=True, timeout=20)
        assert edit.revert() is Undo.FOREIGN
        assert read(ns, edit.name) == "2"


def test_links_vanish_with_the_process_that_made_them() -> None:
    """A refusal whose engine is killed refuses nothing any more, with no one to revert it."""
    with world.netns() as ns, traffic.echo(ns, PORT):
        edits = planned(NetworkRefuse(), process(os.getpid(), ns))
        told, tell = os.pipe()
        engine = os.fork()
        if engine == 0:
            for edit in edits:
                edit.apply()
            lease(30)
            os.write(tell, b"1")
            while True:
                signal.pause()
        os.read(told, 1)
        with traffic.sock(ns, traffic.TCP, "127.0.0.1") as end, pytest.raises(ConnectionRefusedError):
            end.connect(("127.0.0.1", PORT))
        os.kill(engine, signal.SIGKILL)
        os.waitpid(engine, 0)
        assert traffic.first_answer(ns, "127.0.0.1", PORT) < 5
        assert [edit.revert() for edit in edits] == [Undo.GONE] * len(edits)


def test_nothing_strikes_before_the_first_renewal(wire: Wire) -> None:
    left, right = wire
    edits = planned(NetworkLoss(), device(left))
    bpf.renew(0)
    for edit in edits:
        edit.apply()
    assert traffic.delivered(left.netns, right.netns, RIGHT, PORT, 3) == [0, 1, 2]
    for edit in reversed(edits):
        edit.revert()


def test_every_interface_of_a_namespace_but_lo_and_slaves(wire: Wire) -> None:
    left, _ = wire
    names = {
        edit.device.name for edit in planned(NetworkLoss(), everything(left.netns)) if isinstance(edit, Hook)
    }
    assert names == {left.name}
    with pytest.raises(ChaosdError, match="nosuch"):
        planned(NetworkLoss(devices=["nosuch"]), everything(left.netns))
    assert any(link.loopback for link in netlink.interfaces(left.netns))
