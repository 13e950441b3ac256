"""network.delay: what a round trip, a connection and a bulk transfer see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import traffic
import world
from injecting import applied, device, everything, injected, lease, planned
from traffic import TCP, UDP, likely

from chaosd.faults.network_delay import NetworkDelay
from chaosd.faults.network_loss import NetworkLoss
from chaosd.kernel.netns import DeviceRef
from chaosd.units import Duration, Percent

pytestmark = pytest.mark.alone  # it measures times

DELAY = Duration(0.1)
PORT, OTHER = 7001, 7002
RIGHT, RIGHT6 = "10.99.1.2", "fd99:1::2"

Wire = tuple[DeviceRef, DeviceRef]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two namespaces and a wire, echo servers in both."""
    with (
        world.netns() as left,
        world.netns() as right,
        world.veth(left, right) as ends,
        traffic.echo(left, PORT, OTHER),
        traffic.echo(right, PORT, OTHER),
    ):
        yield ends


def grown(seconds: float, times: int = 1) -> bool:
    """Whether a round trip took the delay so many times, and little more."""
    return DELAY * times * 0.98 < seconds < DELAY * times + 0.06


@pytest.mark.parametrize("address", [RIGHT, RIGHT6])
@pytest.mark.parametrize("kind", [TCP, UDP, "icmp"])
def test_a_round_trip_takes_the_delay_longer_once(wire: Wire, kind: object, address: str) -> None:
    left, _ = wire
    with injected(NetworkDelay(delay=DELAY), device(left)) as run:
        assert grown(measure(left, kind, address))
        assert run.evidence.injected == run.evidence.matched > 0
    assert measure(left, kind, address) < 0.05


def measure(left: DeviceRef, kind: object, address: str) -> float:
    if kind == "icmp":
        return traffic.ping(left.netns, address)
    return traffic.round_trip(left.netns, kind, address, PORT)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.99.1.1"])
@pytest.mark.parametrize("kind", [TCP, UDP, "icmp"])
@pytest.mark.parametrize(("direction", "times"), [("egress", 1), ("ingress", 1), ("both", 2)])
def test_on_lo_one_direction_is_delayed(
    wire: Wire, kind: object, address: str, direction: str, times: int
) -> None:
    left, _ = wire
    fault = NetworkDelay(delay=DELAY, direction=direction, devices=["lo"])  # type: ignore[arg-type]
    with injected(fault, everything(left.netns)):
        assert grown(measure(left, kind, address), times)
    assert measure(left, kind, address) < 0.05


@pytest.mark.parametrize(("direction", "times"), [("ingress", 1), ("both", 2)])
@pytest.mark.parametrize("address", [RIGHT, RIGHT6])
def test_the_other_direction_and_both(wire: Wire, address: str, direction: str, times: int) -> None:
    left, _ = wire
    with injected(NetworkDelay(delay=DELAY, direction=direction), device(left)):  # type: ignore[arg-type]
        assert grown(traffic.round_trip(left.netns, TCP, address, PORT), times)
        assert grown(traffic.ping(left.netns, address), times)


def test_a_first_answer_takes_two_round_trips(wire: Wire) -> None:
    left, _ = wire
    with injected(NetworkDelay(delay=DELAY), device(left)):
        assert grown(traffic.first_answer(left.netns, RIGHT, PORT), 2)


def test_only_what_the_filters_name(wire: Wire) -> None:
    left, _ = wire
    with injected(
        NetworkDelay(delay=DELAY, ports=[PORT], protocol="tcp", exclude=["fd99:1::/64"]), device(left)
    ):
        assert grown(traffic.round_trip(left.netns, TCP, RIGHT, PORT))
        assert traffic.round_trip(left.netns, TCP, RIGHT, OTHER) < 0.05
        assert traffic.round_trip(left.netns, UDP, RIGHT, PORT) < 0.05
        assert traffic.round_trip(left.netns, TCP, RIGHT6, PORT) < 0.05
        assert traffic.ping(left.netns, RIGHT) < 0.05


def test_ports_are_of_the_far_end_and_source_ports_of_the_target(wire: Wire) -> None:
    left, right = wire
    with injected(NetworkDelay(delay=DELAY, source_ports=["7000-7001"]), device(right)):
        assert grown(traffic.round_trip(left.netns, TCP, RIGHT, PORT))
        assert traffic.round_trip(left.netns, TCP, RIGHT, OTHER) < 0.05
        assert traffic.round_trip(right.netns, TCP, "10.99.1.1", PORT) < 0.05
    with injected(NetworkDelay(delay=DELAY, ports=[PORT], direction="ingress"), device(left)):
        assert grown(traffic.round_trip(left.netns, UDP, RIGHT, PORT))
        assert traffic.round_trip(right.netns, UDP, "10.99.1.1", PORT) < 0.05


@pytest.mark.parametrize(
    ("cidrs", "hit", "spared"),
    [
        (["10.99.1.0/30"], RIGHT, RIGHT6),
        (["fd99:1::2"], RIGHT6, RIGHT),
        (["0.0.0.0/0"], RIGHT, RIGHT6),
        (["::/0"], RIGHT6, RIGHT),
    ],
)
def test_cidrs_of_both_families(wire: Wire, cidrs: list[str], hit: str, spared: str) -> None:
    left, _ = wire
    with injected(NetworkDelay(delay=DELAY, cidrs=cidrs), device(left)):
        assert grown(traffic.round_trip(left.netns, UDP, hit, PORT))
        assert traffic.round_trip(left.netns, UDP, spared, PORT) < 0.05


def test_the_operators_connection_is_left_alone(wire: Wire) -> None:
    left, _ = wire
    with injected(NetworkDelay(delay=DELAY), everything(left.netns), operator=(RIGHT,)):
        assert traffic.round_trip(left.netns, TCP, RIGHT, PORT) < 0.05
        assert grown(traffic.round_trip(left.netns, TCP, RIGHT6, PORT))


def test_jitter_varies_the_delay_about_its_mean(wire: Wire) -> None:
    left, _ = wire
    fault = NetworkDelay(delay=Duration(0.06), jitter=Duration(0.02), distribution="normal")
    with injected(fault, device(left)):
        taken = sorted(traffic.round_trip(left.netns, UDP, RIGHT, PORT, count=1) for _ in range(41))
    assert 0.045 < taken[20] < 0.09
    assert taken[36] - taken[4] > 0.02


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", RIGHT, RIGHT6])
def test_a_bulk_transfer_arrives_whole(wire: Wire, address: str) -> None:
    left, _ = wire
    fault = NetworkDelay(delay=Duration(0.005), devices=["lo", left.name])
    sent = bytes(range(256)) * 8192
    with injected(fault, everything(left.netns)):
        assert traffic.echoed(left.netns, address, PORT, sent) == sent


def test_when_the_lease_ends_all_is_as_fast_as_ever_with_everything_in_place(wire: Wire) -> None:
    left, _ = wire
    edits = planned(NetworkDelay(delay=DELAY), device(left))
    with applied(edits):
        assert grown(traffic.round_trip(left.netns, TCP, RIGHT, PORT))
        lease(0.3)
        world.until(lambda: traffic.round_trip(left.netns, TCP, RIGHT, PORT) < 0.05, "still slow")
        assert all(edit.present() for edit in edits)
        lease(60)
        assert grown(traffic.round_trip(left.netns, TCP, RIGHT, PORT))


def test_delay_and_loss_at_once(wire: Wire) -> None:
    left, _ = wire
    slow = planned(NetworkDelay(delay=DELAY), device(left), index=0)
    lossy = planned(NetworkLoss(percent=Percent(50), ports=[OTHER]), device(left), index=1)
    with applied(list(dict.fromkeys(slow + lossy))):
        assert grown(traffic.round_trip(left.netns, UDP, RIGHT, PORT))
        got = traffic.delivered(left.netns, wire[1].netns, RIGHT, 7003, 31)
        assert got == list(range(31))
        assert traffic.answers(left.netns, RIGHT, OTHER, 101) in likely(101, 0.5)
