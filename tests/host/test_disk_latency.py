"""disk.latency: how long a target's reads and writes take, by holding calls and by queueing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import Disk, disk, worker
from injecting import injected
from resources import applied, enter, group, owner, plan
from world import need

from chaosd.errors import ChaosdError
from chaosd.faults.base import Planning
from chaosd.faults.disk_latency import DiskLatency
from chaosd.kernel.cgroup import UNIFIED, home_of
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.tracing import PTRACE
from chaosd.targets.model import Target
from chaosd.units import Duration

CONTROLLER, MECHANISM = ("io", "cgroup-v2") if home_of("io") == UNIFIED else ("blkio", "cgroup-v1")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path) as made:
        yield made


def test_each_call_is_held_for_the_delay(small: Disk) -> None:
    """Of the files meant and in the direction meant; not those beside them, nor other processes."""
    need(PTRACE)
    with worker(small, "slow") as one, worker(small, "slow2") as beside:
        target = Target(f"pid:{one.pid}", processes=(ProcessRef.of(one.pid),))
        meant = DiskLatency(path=f"{small.point}/slow", delay=Duration(0.25), of="reads")
        with injected(meant, target) as found:
            assert all(0.25 <= took < 0.5 for took in one.do("r", 65536, 4))
            assert found.evidence.injected == 4
            assert max(one.do("w", 65536, 4)) < 0.2
            assert max(beside.do("r", 65536, 4)) < 0.2
        other = DiskLatency(path=f"{small.point}/else", delay=Duration(0.25))
        with injected(other, target) as found:
            assert max(one.do("r", 65536, 2) + one.do("w", 65536, 2)) < 0.2
            assert found.evidence.injected == 0


def test_two_and_a_half_seconds(small: Disk) -> None:
    """A disk that is nearly dead."""
    need(PTRACE)
    with worker(small, "slow") as one:
        target = Target(f"pid:{one.pid}", processes=(ProcessRef.of(one.pid),))
        with injected(DiskLatency(path=small.point, delay=Duration(2.5)), target):
            assert one.do("w", 4096, 1)[0] == pytest.approx(2.5, abs=0.3)


def test_by_queueing_one_at_a_time_waits_for_its_turn_on_average(small: Disk) -> None:
    """So many operations a second as the delay allows."""
    fault = DiskLatency(path=small.point, delay=Duration(0.1), mechanism=MECHANISM)
    with group(CONTROLLER) as (key, ref), worker(small, "slow") as one, worker(small, "other") as other:
        enter(one.pid, ref)
        target = Target("cgroup:test", (ProcessRef.of(one.pid),), {key: ref})
        with applied(plan(fault, target), elsewhere=True):
            assert sum(one.do("w", 4096, 20)) == pytest.approx(2, abs=0.5)
            assert sum(one.do("r", 4096, 20)) == pytest.approx(2, abs=0.5)
            assert sum(other.do("r", 4096, 20)) < 1
        assert sum(one.do("w", 4096, 20)) < 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"delay": Duration(2)}, "cannot hold an operation for 2s"),
        ({"jitter": Duration(0.1)}, "takes no jitter"),
    ],
    ids=str,
)
def test_what_queueing_cannot_do_is_said(small: Disk, fields: dict[str, Duration], said: str) -> None:
    """It is the lower rung; what it lacks is refused and not left out."""
    fields = {"delay": Duration(0.5)} | fields
    fault = DiskLatency(path=small.point, mechanism=MECHANISM, **fields)
    with group(CONTROLLER) as (key, ref), pytest.raises(ChaosdError, match=said):
        list(fault.plan(owner(key, ref), Planning("aaaaaa", 0, 1, MECHANISM, 5.0)))


def test_nothing_to_delay_and_a_path_that_is_none() -> None:
    """Both at once, one line each."""
    assert len(DiskLatency(path="var", delay=Duration(0)).check()) == 2
