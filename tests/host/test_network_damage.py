"""network.corrupt, duplicate, reorder and rate, as the receiver sees them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import traffic
import world
from injecting import Injection, applied, device, everything, injected, planned, process
from traffic import likely

from chaosd.faults.network_corrupt import NetworkCorrupt
from chaosd.faults.network_duplicate import NetworkDuplicate
from chaosd.faults.network_rate import NetworkRate
from chaosd.faults.network_reorder import NetworkReorder
from chaosd.kernel.netns import DeviceRef
from chaosd.units import Duration, Percent, Rate

PORT = 7001
RIGHT, RIGHT6 = "10.99.1.2", "fd99:1::2"
MANY = 1009

Wire = tuple[DeviceRef, DeviceRef]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two namespaces and a wire."""
    with world.netns() as left, world.netns() as right, world.veth(left, right) as ends:
        yield ends


@pytest.mark.parametrize("address", [RIGHT, RIGHT6, "127.0.0.1"])
def test_a_share_arrives_twice(wire: Wire, address: str) -> None:
    left, right = wire
    ns = left.netns if address == "127.0.0.1" else right.netns
    fault = NetworkDuplicate(percent=Percent(20), ports=[PORT], devices=["lo", left.name])
    with injected(fault, everything(left.netns)) as run:
        got = traffic.delivered(left.netns, ns, address, PORT, MANY)
        twice = len(got) - MANY
        assert set(got) == set(range(MANY))
        assert twice in likely(MANY, 0.2)
        assert run.evidence.injected == twice


def test_what_comes_in_is_doubled_too(wire: Wire) -> None:
    left, right = wire
    fault = NetworkDuplicate(budget=5, ports=[PORT], direction="ingress")
    with injected(fault, device(left)), traffic.echo(right.netns, PORT):
        assert traffic.answers(left.netns, RIGHT, PORT, 9) == 14


@pytest.mark.parametrize("address", [RIGHT, RIGHT6])
def test_a_share_is_damaged_and_discarded(wire: Wire, address: str) -> None:
    """A flipped bit shows in the UDP checksum, or sends the frame to nobody."""
    left, right = wire
    with injected(NetworkCorrupt(percent=Percent(30), ports=[PORT]), device(left)) as run:
        got = traffic.delivered(left.netns, right.netns, address, PORT, MANY, pause=0.0005)
        lost = MANY - len(got)
        # a flip in the DSCP or flow label, the hop limit, or a source MAC does no harm
        assert lost in range(round(0.75 * run.evidence.injected), run.evidence.injected + 1)
        assert run.evidence.injected in likely(MANY, 0.3)


def test_tcp_survives_damage(wire: Wire) -> None:
    left, right = wire
    sent = bytes(range(256)) * 512
    with traffic.echo(right.netns, PORT), injected(NetworkCorrupt(percent=Percent(5)), device(left)):
        assert traffic.echoed(left.netns, RIGHT, PORT, sent) == sent


def test_a_share_is_overtaken(wire: Wire) -> None:
    left, right = wire
    fault = NetworkReorder(percent=Percent(20), delay=Duration(0.1), ports=[PORT])
    with injected(fault, device(left)) as run:
        got = traffic.delivered(left.netns, right.netns, RIGHT, PORT, 499, pause=0.002)
        assert sorted(got) == list(range(499))
        highest, late = -1, 0
        for number in got:
            late += number < highest
            highest = max(highest, number)
        assert run.evidence.injected in likely(499, 0.2)
        assert run.evidence.injected * 0.85 <= late <= run.evidence.injected


@pytest.mark.parametrize(("address", "size"), [(RIGHT, 1400), (RIGHT6, 1400), ("127.0.0.1", 60000)])
def test_a_rate_is_what_passes(wire: Wire, address: str, size: int) -> None:
    left, right = wire
    rate = 4e6
    fault = NetworkRate(rate=Rate(rate), ports=[PORT], devices=["lo", left.name])
    ns = left.netns if address == "127.0.0.1" else right.netns
    with injected(fault, everything(left.netns)) as run:
        passed = traffic.throughput(left.netns, ns, address, PORT, size, 3 * rate)
        assert run.evidence.injected > 0
    assert 0.8 * rate < passed < 1.15 * rate
    assert traffic.throughput(left.netns, ns, address, PORT, size, 3 * rate) > 1.5 * rate


@pytest.mark.parametrize("address", [RIGHT, RIGHT6, "127.0.0.1"])
def test_tcp_fills_a_narrow_link_and_loses_nothing(wire: Wire, address: str) -> None:
    left, right = wire
    ns = left.netns if address == "127.0.0.1" else right.netns
    sent = bytes(range(256)) * 8192  # 2 MiB: 0.8 s at 20 Mbit/s
    with (
        traffic.echo(ns, PORT),
        injected(NetworkRate(rate=Rate(20e6), devices=["lo", left.name]), everything(left.netns)),
    ):
        begun = time.monotonic()
        assert traffic.echoed(left.netns, address, PORT, sent) == sent
        assert 0.7 < time.monotonic() - begun < 20


def test_a_rate_for_one_process_spares_the_others(wire: Wire) -> None:
    left, right = wire
    code = (
        "import socket,sys\n"
        f"s=socket.create_connection(('{RIGHT}',{PORT})); print('up',flush=True)\n"
        "for line in sys.stdin:\n"
        "    import time; t=time.monotonic(); n=int(line); s.sendall(bytes(n)); g=0\n"
        "    while g<n: g+=len(s.recv(1<<20))\n"
        "    print(time.monotonic()-t,flush=True)\n"
    )
    with (
        traffic.echo(right.netns, PORT),
        world.spawn(world.python(code), ns=left.netns) as slow,
        world.spawn(world.python(code), ns=left.netns) as free,
    ):
        taken = []
        for child in (slow, free):
            assert child.stdout.readline() == "up\n"
        with injected(NetworkRate(rate=Rate(4e6)), process(slow.pid, left.netns)):
            for child in (slow, free):
                child.stdin.write("1000000\n")
                taken.append(float(child.stdout.readline()))
    assert taken[0] > 1.3  # 8 Mbit at 4 Mbit/s, less the bucket
    assert taken[1] < 0.7


def test_what_one_queue_has_held_a_second_one_counts_and_spares(wire: Wire) -> None:
    """Behind an ifb the kernel skips the next redirection; the second fault does not claim the hit."""
    left, right = wire
    first = planned(NetworkRate(rate=Rate(1e9), ports=[PORT]), device(left), index=0)
    second = planned(NetworkRate(rate=Rate(1e9)), device(left), index=1)
    with applied(list(dict.fromkeys(first + second))):
        assert len(traffic.delivered(left.netns, right.netns, RIGHT, PORT, 31)) == 31
        assert Injection(first).evidence.injected == 31
        assert Injection(second).evidence.skipped["overlap"] == 31
        assert len(traffic.delivered(left.netns, right.netns, RIGHT, 7002, 31)) == 31
        assert Injection(second).evidence.injected >= 31
