"""network.loss and network.partition: how many datagrams get through, and which."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import groupby

import pytest
import traffic
import world
from injecting import device, everything, injected
from traffic import TCP, UDP, likely

from chaosd import plan, scenario
from chaosd.faults.network_loss import NetworkLoss
from chaosd.faults.network_partition import NetworkPartition
from chaosd.kernel.capability_network import GATE, TAGGING
from chaosd.kernel.gate import Gate
from chaosd.kernel.netns import DeviceRef
from chaosd.targets.resolve import resolve
from chaosd.units import Percent

LOSS = "name: loss\nduration: 1s\nblast_radius: service-cluster\nfaults: [network.loss: {percent: 5%}]\n"
PORT = 7001
RIGHT, RIGHT6 = "10.99.1.2", "fd99:1::2"
MANY = 2003

Wire = tuple[DeviceRef, DeviceRef]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two namespaces and a wire."""
    with world.netns() as left, world.netns() as right, world.veth(left, right) as ends:
        yield ends


def sent(wire: Wire, address: str = RIGHT, count: int = MANY, flows: int = 1) -> list[int]:
    return traffic.delivered(wire[0].netns, wire[1].netns, address, PORT, count, flows=flows)


@pytest.mark.parametrize("address", [RIGHT, RIGHT6])
@pytest.mark.parametrize("share", [5, 30, 90])
def test_the_share_that_is_lost(wire: Wire, address: str, share: int) -> None:
    with injected(NetworkLoss(percent=Percent(share), protocol="udp"), device(wire[0])) as run:
        lost = MANY - len(sent(wire, address))
        assert lost in likely(MANY, share / 100)
        assert (run.evidence.matched, run.evidence.injected) == (MANY, lost)
        assert run.evidence.skipped == {"probability": MANY - lost}
    assert len(sent(wire, address)) == MANY


def test_loss_of_what_comes_in(wire: Wire) -> None:
    fault = NetworkLoss(percent=Percent(30), direction="ingress", protocol="udp")
    with injected(fault, device(wire[1])) as run:
        lost = MANY - len(sent(wire))
        assert lost in likely(MANY, 0.3)
        assert run.evidence.injected == lost


def test_the_same_seed_loses_the_same_packets(wire: Wire) -> None:
    got = []
    for seed in (7, 7, 8):
        with injected(NetworkLoss(percent=Percent(30), ports=[PORT]), device(wire[0]), seed=seed):
            got.append(sent(wire, count=199))
    assert got[0] == got[1] != got[2]


def test_a_share_of_flows_loses_all_and_the_others_nothing(wire: Wire) -> None:
    flows = 727
    with injected(NetworkLoss(percent=Percent(25), of="flows", ports=[PORT]), device(wire[0])):
        got = sent(wire, count=3 * flows, flows=flows)
    alive = [flow for flow in range(flows) if flow in got]
    assert sorted(got) == sorted(flow + turn * flows for flow in alive for turn in range(3))
    assert flows - len(alive) in likely(flows, 0.25, sigmas=4)


def test_both_directions_agree_on_a_flow(wire: Wire) -> None:
    """Half of the flows are hit; with one decision for each, half of the pings come back, not a quarter."""
    fault = NetworkLoss(percent=Percent(50), of="flows", direction="both", ports=[PORT])
    left, right = wire
    count = 499
    with traffic.echo(right.netns, PORT), injected(fault, device(left)):
        answered = 0
        ends = [traffic.sock(left.netns, UDP, RIGHT) for _ in range(count)]
        for end in ends:
            end.connect((RIGHT, PORT))
            end.send(b"x")
        for end in ends:
            end.settimeout(0.002 if answered else 0.5)
            try:
                answered += len(end.recv(1))
            except TimeoutError:
                pass
            end.close()
    assert answered in likely(count, 0.5, sigmas=4)


def runs(got: list[int], count: int) -> list[int]:
    """The lengths of the runs of lost packets."""
    there = set(got)
    return [len(list(run)) for lost, run in groupby(range(count), lambda n: n not in there) if lost]


def test_correlated_loss_comes_in_runs_and_keeps_its_share(wire: Wire) -> None:
    count = 10007
    with injected(NetworkLoss(percent=Percent(20), correlation=Percent(75), ports=[PORT]), device(wire[0])):
        lengths = runs(sent(wire, count=count), count)
    assert 0.15 < sum(lengths) / count < 0.25
    assert 3.9 < sum(lengths) / len(lengths) < 6.2  # 1 / ((1 - 0.2)(1 - 0.75)) = 5; alone it is 1.25


def test_gilbert_elliott_bursts(wire: Wire) -> None:
    count = 10007
    with injected(NetworkLoss(p=Percent(2), r=Percent(10), ports=[PORT]), device(wire[0])):
        lengths = runs(sent(wire, count=count), count)
    assert 7 < sum(lengths) / len(lengths) < 14  # 1 / 0.1
    assert 0.11 < sum(lengths) / count < 0.23  # 2 / (2 + 10)


def test_gilbert_elliott_loses_little_between_bursts_and_not_all_within(wire: Wire) -> None:
    count = 10007
    fault = NetworkLoss(p=Percent(5), r=Percent(15), bad_loss=Percent(60), good_loss=Percent(4), ports=[PORT])
    with injected(fault, device(wire[0])):
        lost = count - len(sent(wire, count=count))
    assert 0.15 < lost / count < 0.21  # 0.25 * 0.6 + 0.75 * 0.04 = 0.18


def test_a_budget_is_kept_to_the_packet(wire: Wire) -> None:
    with injected(NetworkLoss(percent=Percent(50), budget=13, ports=[PORT]), device(wire[0])) as run:
        assert MANY - len(sent(wire)) == 13
        assert run.evidence.injected == 13
        assert run.evidence.skipped["budget"] > MANY / 3


def test_one_way_on_lo_is_counted_once(wire: Wire) -> None:
    ns = wire[0].netns
    with injected(NetworkLoss(percent=Percent(30), devices=["lo"], ports=[PORT]), everything(ns)) as run:
        got = traffic.delivered(ns, ns, "127.0.0.1", PORT, MANY)
        assert MANY - len(got) in likely(MANY, 0.3)
        assert run.evidence.matched == MANY


def test_loss_of_everything_lets_a_connection_hang_without_error(wire: Wire) -> None:
    left, right = wire
    with (
        traffic.echo(right.netns, PORT),
        injected(NetworkLoss(), device(left)),
        traffic.sock(left.netns, TCP, RIGHT) as end,
    ):
        end.settimeout(1.0)
        with pytest.raises(TimeoutError):
            end.connect((RIGHT, PORT))


@pytest.mark.parametrize(
    ("direction", "heard", "hears"),
    [("egress", False, True), ("ingress", True, False), ("both", False, False)],
)
@pytest.mark.parametrize("address", [(RIGHT, "10.99.1.1"), (RIGHT6, "fd99:1::1")])
def test_a_partition_one_way_and_both(
    wire: Wire, direction: str, heard: bool, hears: bool, address: tuple[str, str]
) -> None:
    left, right = wire
    fault = NetworkPartition(direction=direction, cidrs=["10.99.1.0/24", "fd99:1::/64"])  # type: ignore[arg-type]
    traffic.delivered(left.netns, right.netns, address[0], PORT, 1)  # neighbors know each other
    with injected(fault, device(left)):
        out = traffic.delivered(left.netns, right.netns, address[0], PORT, 7)
        back = traffic.delivered(right.netns, left.netns, address[1], PORT, 7)
    assert (len(out), len(back)) == (7 * heard, 7 * hears)


def test_a_partition_spares_other_peers(wire: Wire) -> None:
    left, right = wire
    with injected(NetworkPartition(cidrs=["10.99.1.2"]), device(left)):
        assert traffic.delivered(left.netns, right.netns, RIGHT, PORT, 7) == []
        assert len(traffic.delivered(left.netns, right.netns, RIGHT6, PORT, 7)) == 7


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_fragments_of_a_matched_datagram_go_with_it_or_not_at_all(wire: Wire, family: int) -> None:
    """Later fragments bear no port; losing the first is losing all."""
    left, right = wire
    address = RIGHT if family == socket.AF_INET else RIGHT6
    with traffic.echo(right.netns, PORT, 7002), injected(NetworkLoss(ports=[PORT]), device(left)):
        for port, answered in ((PORT, False), (7002, True)):
            with traffic.sock(left.netns, UDP, address) as end:
                end.settimeout(5 if answered else 0.5)
                end.connect((address, port))
                end.send(bytes(9000))
                if answered:
                    assert len(end.recv(65536)) == 9000
                else:
                    with pytest.raises(TimeoutError):
                        end.recv(65536)


def test_a_port_is_found_behind_ipv6_extension_headers(wire: Wire) -> None:
    left, right = wire
    options = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # an empty header of 8 bytes: PadN
    with traffic.echo(right.netns, PORT), injected(NetworkLoss(ports=[PORT]), device(left)) as run:
        with traffic.sock(left.netns, UDP, RIGHT6) as end:
            end.connect((RIGHT6, PORT))
            for header in (socket.IPV6_HOPOPTS, socket.IPV6_DSTOPTS):
                end.sendmsg([b"x"], [(socket.IPPROTO_IPV6, header, options)])
        assert run.evidence.matched == 2


def test_the_operator_is_spared_by_what_takes_all_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one who is there only when a target is met again that has become all of its namespace."""
    world.need(GATE, TAGGING)
    monkeypatch.setattr(plan, "operator_addresses", lambda: ("192.0.2.9",))
    sleep = world.python("import time; time.sleep(60)")
    with (
        world.netns() as left,
        world.netns() as right,
        world.veth(left, right),
        world.spawn(sleep, ns=left) as one,
        world.spawn(sleep, ns=left),
    ):
        parsed = scenario.parse(LOSS, "loss", {"target": f"pid:{one.pid}"})
        (shared,) = plan.make(parsed).faults
        assert spared(shared) == ()
        alone = plan.anew(shared, resolve(f"netns:{one.pid}"), parsed)
        assert spared(alone) == ("192.0.2.9",)


def spared(planned: plan.PlannedFault) -> tuple[str, ...]:
    """Whom the gate of a fault leaves alone."""
    return next(edit.filters.exclude for edit in planned.edits if isinstance(edit, Gate))
