"""Filters, chances and distribution tables, as numbers."""

from __future__ import annotations

import struct
from statistics import fmean, pstdev

import pytest

from chaosd.errors import UnsupportedError
from chaosd.faults._network import span
from chaosd.faults.network_delay import NetworkDelay
from chaosd.faults.network_loss import NetworkLoss
from chaosd.faults.network_partition import NetworkPartition
from chaosd.faults.network_rate import NetworkRate
from chaosd.faults.network_reorder import NetworkReorder
from chaosd.kernel import decision
from chaosd.kernel.gate import backwards
from chaosd.kernel.match import Filters, Rule, network
from chaosd.kernel.netem import Shape, table
from chaosd.kernel.syscalls import Calls
from chaosd.units import Duration, Percent, Rate


@pytest.mark.parametrize(("shape", "spread"), [("normal", 1.0), ("pareto", 0.82), ("paretonormal", 0.8)])
def test_a_distribution_table_has_its_mean_and_spread(shape: Shape, spread: float) -> None:
    points = [point / 8192 for point in table(shape)]
    assert list(points) == sorted(points)
    assert fmean(points) == pytest.approx(0, abs=0.06)
    assert pstdev(points) == pytest.approx(spread, abs=0.15)
    assert max(points) <= 4
    assert min(points) >= -4


def test_a_chance_keeps_its_share_whatever_the_correlation() -> None:
    for share in (0.01, 0.25, 0.9):
        for correlation in (0.0, 0.5, 0.99):
            rule = Rule.chance(1, share, correlation=correlation)
            assert rule.worsen / (rule.worsen + rule.mend) == pytest.approx(share)
            assert 1 - rule.worsen - rule.mend == pytest.approx(correlation)


def test_certainty_fits_into_a_rule() -> None:
    assert len(Rule(2**64 + 5).pack()) == 96
    assert Rule(2**64 + 5).pack() == Rule(5).pack()


def test_a_limit_is_packed_in_the_units_of_the_kernel() -> None:
    packed = struct.unpack("=11Q2I", Rule(1, limit=10, window=60.0).pack())
    assert packed[9:11] == (10, round(60e9 / 2**20))


def test_a_limit_is_not_left_to_a_tracer() -> None:
    with pytest.raises(UnsupportedError, match="by eBPF alone"):
        decision.settings(Calls(("connect",)), Rule(1, limit=10, window=60.0), 5, 0.0, 0.0)


def test_a_name_is_kept_backwards_so_that_what_ends_alike_begins_alike() -> None:
    length, name = struct.unpack("=I256s", backwards("API.example."))
    assert name[: length // 8] == b"\0elpmaxe\7ipa\3\xff"
    assert backwards("*.api.example") == backwards(".api.example") == struct.pack("=I256s", 13 * 8, name[:13])


@pytest.mark.parametrize(
    "name", ["", ".", "*", "*.", "a..b", "*a.b", "a.*.b", "\u00fc.b", "a" * 64, "a." * 127 + "b"]
)
def test_what_is_no_domain_name(name: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        backwards(name)


def test_filters_are_eight_bytes_and_words() -> None:
    filters = Filters(
        ports=((80, 80), (8000, 8099)), cidrs=("10.0.0.0/8",), exclude=("10.1.0.0/16",), protocol="icmp"
    )
    assert filters.pack() == bytes([1, 58, 1, 0, 1, 1, 0, 0])
    assert str(filters) == "icmp, port 80, 8000-8099, peers in 10.0.0.0/8, but not 10.1.0.0/16"
    assert str(Filters()) == "everything"


@pytest.mark.parametrize(("text", "ends"), [(80, (80, 80)), ("80", (80, 80)), ("1-65535", (1, 65535))])
def test_a_span_of_ports(text: int | str, ends: tuple[int, int]) -> None:
    assert span(text) == ends


@pytest.mark.parametrize("text", [0, 65536, "9-8", "x", "-5", "5-", "1-2-3", ""])
def test_what_is_no_span_of_ports(text: int | str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        span(text)


def test_host_bits_of_a_network_do_not_matter() -> None:
    assert network("10.1.2.3/8") == network("10.0.0.0/8")


@pytest.mark.parametrize(
    "fault",
    [
        NetworkDelay(delay=Duration(0)),
        NetworkDelay(delay=Duration(1), correlation=Percent(5)),
        NetworkDelay(delay=Duration(1), protocol="icmp", ports=[5]),
        NetworkLoss(p=Percent(5)),
        NetworkLoss(p=Percent(5), r=Percent(5), percent=Percent(20)),
        NetworkLoss(of="flows", percent=Percent(20), correlation=Percent(20)),
        NetworkPartition(percent=Percent(20)),
        NetworkReorder(percent=Percent(100)),
        NetworkRate(rate=Rate(10)),
        NetworkRate(rate=Rate(1e6), cidrs=["nonsense"]),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_line(fault: NetworkLoss) -> None:
    assert len(fault.check()) == 1
    assert "\n" not in fault.check()[0]
