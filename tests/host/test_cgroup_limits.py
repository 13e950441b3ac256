"""CPU, task and memory limits: what the target feels, what the kernel counts, what is left after."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from resources import (
    BUSY,
    applied,
    bare,
    cpu_time,
    enter,
    group,
    owner,
    place,
    plan,
    share,
)  # fmt: skip
from world import python, spawn, until

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import CpuShare
from chaosd.faults.cpu_pin import CpuPin
from chaosd.faults.cpu_throttle import CpuThrottle
from chaosd.faults.memory_limit import MemoryLimit
from chaosd.faults.pids_limit import PidsLimit
from chaosd.kernel.cgroup import UNIFIED, home_of, root
from chaosd.kernel.edit import Edit, Evidence
from chaosd.kernel.process import ProcessRef, family
from chaosd.targets.model import Target
from chaosd.units import Duration, Percent, Size

FORKER = """
import os, sys, time
for line in sys.stdin:
    try:
        pid = os.fork()
    except OSError as error:
        print(error.errno, flush=True); continue
    if pid == 0:
        time.sleep(60); os._exit(0)
    print(0, flush=True)
"""
EATER = """
import sys
held = []
for line in sys.stdin:
    for _ in range(int(line)):
        held.append(bytearray(1 << 20))
    print(len(held), flush=True)
"""


def evidence(edits: list[Edit]) -> Evidence:
    found = [e for edit in edits if (e := edit.evidence()) is not None]
    assert len(found) == 1
    return found[0]


def test_throttle_in_place() -> None:
    """A busy loop gets the percentage asked for, periods are counted, and there are none afterwards."""
    with group("cpu") as (key, ref), spawn(python(BUSY)) as process:
        enter(process.pid, ref)
        edits = plan(CpuThrottle(percent=CpuShare(20), period=Duration(0.05)), owner(key, ref))
        with applied(edits, elsewhere=True):
            assert evidence(edits).injected < 5
            assert 0.1 < share(process.pid) < 0.26
            assert evidence(edits).unit == "throttled periods"
            assert 10 < evidence(edits).injected < 120
            assert not any(edit.lost() for edit in edits)
        throttled, used = evidence(edits).injected, cpu_time(process.pid)
        until(lambda: cpu_time(process.pid) > used + 0.5, "it hardly runs")
        assert evidence(edits).injected == throttled


def test_throttle_of_a_bare_process_in_a_child_of_its_own_cgroup() -> None:
    """Only the process is slowed, below the cgroup it was in, with a child born meanwhile; all go back."""
    code = "import os\nos.fork()\nwhile True: pass"
    with group("cpu") as (key, ref), spawn(python(code)) as one, spawn(python(BUSY)) as other:
        until(lambda: len(family(bare(one.pid).processes)) == 2, "no child")
        for member in (*family(bare(one.pid).processes), ProcessRef.of(other.pid)):
            enter(member.pid, ref)
        edits = plan(CpuThrottle(percent=CpuShare(10)), bare(one.pid))
        with applied(edits, elsewhere=True):
            assert place(one.pid, key).startswith(f"{ref.path}/chaosd-")
            assert place(other.pid, key) == ref.path
            both = [member.pid for member in family(bare(one.pid).processes)]
            assert len(both) == 2
            assert share(one.pid) < 0.16
            assert evidence(edits).injected > 5
        assert {place(pid, key) for pid in both} == {ref.path}
        assert not [entry for entry in os.scandir(ref.path) if entry.is_dir()]


def test_throttle_never_loosens_a_limit() -> None:
    """Where a tighter limit is in force, the plan says so."""
    with group("cpu") as (key, ref):
        edits = plan(CpuThrottle(percent=CpuShare(20)), owner(key, ref))
        with applied(edits), pytest.raises(ChaosdError, match="already limited"):
            plan(CpuThrottle(percent=CpuShare(50)), owner(key, ref))


def test_pin() -> None:
    """Every thread runs on the one CPU; a thread's own affinity survives."""
    with group("cpuset") as (key, ref), spawn(["sleep", "60"]) as free, spawn(["sleep", "60"]) as bound:
        last = max(os.sched_getaffinity(0))
        if last == 0:
            pytest.skip("one CPU")
        for process in (free, bound):
            enter(process.pid, ref)
        everywhere = os.sched_getaffinity(free.pid)
        os.sched_setaffinity(bound.pid, {last})
        with applied(edits := plan(CpuPin(cpus=[0]), owner(key, ref)), elsewhere=True):
            assert os.sched_getaffinity(free.pid) == os.sched_getaffinity(bound.pid) == {0}
            assert evidence(edits) == Evidence(2, 2, unit="processes")
        assert os.sched_getaffinity(free.pid) == everywhere
        assert os.sched_getaffinity(bound.pid) == {last}


def test_pin_of_a_bare_process() -> None:
    """It goes to a cpuset of its own and comes back."""
    with group("cpuset") as (key, ref), spawn(["sleep", "60"]) as one, spawn(["sleep", "60"]) as other:
        for process in (one, other):
            enter(process.pid, ref)
        everywhere = os.sched_getaffinity(one.pid)
        with applied(plan(CpuPin(cpus=[0]), bare(one.pid)), elsewhere=True):
            assert os.sched_getaffinity(one.pid) == {0}
            assert os.sched_getaffinity(other.pid) == everywhere
        assert os.sched_getaffinity(one.pid) == everywhere
        assert place(one.pid, key) == ref.path


def tell(process: subprocess.Popen[str], word: object = "") -> None:
    assert process.stdin
    process.stdin.write(f"{word}\n")


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def say(process: subprocess.Popen[str], word: object = "") -> str:
    tell(process, word)
    return answer(process)


def _forks(process: subprocess.Popen[str]) -> int:
    return int(say(process))


@pytest.mark.parametrize("own", [True, False])
def test_fork_fails_in_the_target_only(own: bool) -> None:
    """fork answers EAGAIN beyond the headroom, in the target and nowhere else, until the end."""
    with group("pids") as (key, ref), spawn(python(FORKER)) as process, spawn(python(FORKER)) as other:
        assert _forks(process) == 0
        enter(process.pid, ref)
        enter(next(p.pid for p in family(bare(process.pid).processes)[1:]), ref)
        if not own:
            enter(other.pid, ref)
        target = owner(key, ref) if own else bare(process.pid)
        with applied(edits := plan(PidsLimit(headroom=1), target), elsewhere=True):
            assert [_forks(process) for _ in range(3)] == [0, 11, 11]
            assert _forks(other) == 0
            assert evidence(edits) == Evidence(2, 2, unit="limit hits")
        assert _forks(process) == 0


def test_memory_above_the_limit_waits_and_goes_on_after() -> None:
    """Above a soft limit the target is held up, not killed; when the limit is gone it goes on."""
    with group("memory") as (key, ref), spawn(python(EATER)) as process:
        enter(process.pid, ref)
        assert say(process, 8) == "8"
        with applied(edits := plan(MemoryLimit(size=Size(32 * 2**20)), owner(key, ref)), elsewhere=True):
            tell(process, 64)
            until(lambda: evidence(edits).injected > 10, "the limit is not hit")
            assert process.poll() is None
            assert evidence(edits).unit == "limit hits"
        assert answer(process) == "72"


def test_hard_memory_limit_of_a_bare_process_kills_it_alone() -> None:
    """With ``hard`` the OOM killer ends the process in its own cgroup and spares the one beside it."""
    with group("memory") as (key, ref), spawn(python(EATER)) as process, spawn(python(EATER)) as other:
        if key != UNIFIED:  # there a shared cgroup that is not the root has no place for it
            for one in (process, other):
                enter(one.pid, ref)
        with applied(edits := plan(MemoryLimit(size=Size(24 * 2**20), hard=True), bare(process.pid))):
            tell(process, 64)
            until(lambda: process.poll() is not None, "it is not killed")
            assert process.returncode == -9
            assert evidence(edits).injected > 0
            assert say(other, 64) == "64"


def test_memory_percent_of_what_is_used() -> None:
    """A percentage is of what the target uses now, in whole pages."""
    with group("memory") as (key, ref), spawn(python(EATER)) as process:
        enter(process.pid, ref)
        say(process, 40)
        file = "memory.current" if key == UNIFIED else "memory.usage_in_bytes"
        edits = plan(MemoryLimit(percent=Percent(50)), owner(key, ref))
        if Path(ref.path, file).exists():
            used = int(Path(ref.path, file).read_text("ascii"))
            values = [int(edit.after) for edit in edits if getattr(edit, "after", "").isdigit()]
            assert values[-1] % 4096 == 0
            assert values[-1] == pytest.approx(used / 2, rel=0.05)


def test_a_limit_that_cannot_be_reached_is_refused_and_nothing_is_left() -> None:
    """On v1 the kernel refuses a limit under what cannot be reclaimed; the old value stands."""
    with group("memory") as (key, ref), spawn(python(EATER)) as process:
        if key == UNIFIED:
            pytest.skip("v2 sets any limit")
        enter(process.pid, ref)
        say(process, 40)
        before = Path(ref.path, "memory.limit_in_bytes").read_text("ascii")
        edits = plan(MemoryLimit(size=Size(2**20)), owner(key, ref))
        with pytest.raises(ChaosdError, match=r"Device or resource busy|reclaim"), applied(edits):
            pass
        assert Path(ref.path, "memory.limit_in_bytes").read_text("ascii") == before


@pytest.mark.parametrize("fault", [CpuThrottle(percent=CpuShare(50)), MemoryLimit(size=Size(2**30))])
def test_a_root_cgroup_takes_no_limit(fault: CpuThrottle | MemoryLimit) -> None:
    """The plan, or the kernel, says so, and nothing is changed."""
    key = home_of(fault.name.partition(".")[0])
    if key is None:
        pytest.skip("no such controller here")
    target = Target("cgroup:/", cgroups={key: root(key)})
    with pytest.raises(ChaosdError, match=r"root|has no|does not take"):
        plan(fault, target)[0].apply()
