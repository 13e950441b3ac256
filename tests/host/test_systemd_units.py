"""Limits and restarts of units, through a real systemd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from resources import applied, plan, revert_elsewhere
from world import need, until

from chaosd.errors import ForeignStateError
from chaosd.faults._cgroup import CpuShare
from chaosd.faults.base import Fault
from chaosd.faults.cpu_throttle import CpuThrottle
from chaosd.faults.memory_limit import MemoryLimit
from chaosd.faults.pids_limit import PidsLimit
from chaosd.faults.process_kill import ProcessKill
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, hierarchies, home_of, of_process
from chaosd.kernel.edit import Undo
from chaosd.kernel.process import Kill, ProcessRef
from chaosd.kernel.restart import Restart, running
from chaosd.kernel.systemd import SYSTEMD, UnitProperty, systemctl
from chaosd.targets.model import Target
from chaosd.units import Duration, Size

_serial = count()


@contextmanager
def unit() -> Iterator[tuple[str, Target]]:
    """A service of the test's own that sleeps."""
    need(SYSTEMD)
    name = f"chaosd-test-{os.getpid()}-{next(_serial)}.service"
    file = Path("/run/systemd/system", name)
    file.write_text(
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep 3600\nCPUAccounting=yes\n", "ascii"
    )
    systemctl("daemon-reload")
    try:
        systemctl("start", name)
        yield name, target(name)
    finally:
        systemctl("stop", name)
        file.unlink()
        systemctl("revert", name)
        systemctl("daemon-reload")


def target(name: str) -> Target:
    pid = int(systemctl("show", "--property=MainPID", "--value", name))
    mounts = hierarchies()
    own = {key: CgroupRef.at(path) for key, path in of_process(pid).items() if path != mounts[key]}
    return Target(f"unit:{name}", (ProcessRef.of(pid),), own, manager=f"unit:{name}")


@pytest.mark.parametrize(
    ("fault", "files"),
    [
        (CpuThrottle(percent=CpuShare(20)), {"cpu.max": "20000 100000", "cpu.cfs_quota_us": "20000"}),
        (
            CpuThrottle(percent=CpuShare(150), period=Duration(0.02)),
            {"cpu.max": "30000 20000", "cpu.cfs_period_us": "20000"},
        ),
        (PidsLimit(limit=7), {"pids.max": "7"}),
        (MemoryLimit(size=Size(64 * 2**20)), {"memory.high": str(64 * 2**20)}),
        (MemoryLimit(size=Size(64 * 2**20), hard=True), {"memory.max": str(64 * 2**20)}),
    ],
    ids=str,
)
def test_a_limit_lasts_over_a_reload_and_goes(fault: Fault, files: dict[str, str]) -> None:
    """systemd keeps the value while it re-reads its files, and knows nothing of it after."""
    if fault.name == "memory.limit" and home_of("memory") != UNIFIED:
        pytest.skip("systemd has no such property on cgroup v1")
    with unit() as (_, aim):
        with applied(edits := plan(fault, aim), elsewhere=True):
            assert {type(edit) for edit in edits} == {UnitProperty}
            paths = {
                f"{ref.path}/{file}": value for ref in aim.cgroups.values() for file, value in files.items()
            }
            there = {path: value for path, value in paths.items() if os.path.exists(path)}
            assert there
            assert {path: Path(path).read_text("ascii").strip() for path in there} == there
            systemctl("daemon-reload")
            assert all(edit.present() and not edit.lost() for edit in edits)
            assert edits[-1].evidence() is not None
        assert not any(os.path.exists(edit.path) for edit in edits if isinstance(edit, UnitProperty))


def test_a_runtime_value_of_the_operator_comes_back() -> None:
    """What ``set-property --runtime`` had set before is in force again, and its drop-in as it was."""
    with unit() as (name, aim):
        systemctl("set-property", "--runtime", name, "CPUQuota=50%")
        (edit,) = plan(CpuThrottle(percent=CpuShare(20)), aim)
        assert isinstance(edit, UnitProperty)
        before = Path(edit.path).read_text("ascii")
        with applied([edit], elsewhere=True):
            assert Path(edit.path).read_text("ascii") != before
        assert Path(edit.path).read_text("ascii") == before
        assert systemctl("show", "--property=CPUQuotaPerSecUSec", "--value", name) == "500ms"


def test_a_value_that_the_operator_sets_meanwhile_stays() -> None:
    """It is foreign: before the deed that refuses, after it that is left alone."""
    with unit() as (name, aim):
        (edit,) = plan(CpuThrottle(percent=CpuShare(20)), aim)
        edit.apply()
        systemctl("set-property", "--runtime", name, "CPUQuota=30%")
        assert "somebody else" in edit.lost()
        assert revert_elsewhere([edit]) == [Undo.FOREIGN]
        assert systemctl("show", "--property=CPUQuotaPerSecUSec", "--value", name) == "300ms"
        with pytest.raises(ForeignStateError, match="somebody else"):
            edit.apply()


def test_a_killed_unit_is_started_again() -> None:
    """The recovery step brings it back, once."""
    with unit() as (name, aim):
        edits = plan(ProcessKill(), aim)
        assert [type(edit) for edit in edits] == [Restart, Kill]
        for edit in edits:
            edit.apply()
            assert edit.present()
        until(lambda: not running(aim.manager), "systemd has not noticed")
        assert revert_elsewhere(edits) == [Undo.NEVER, Undo.DONE]
        assert running(aim.manager)
        pid = target(name).processes[0].pid
        assert revert_elsewhere(edits) == [Undo.NEVER, Undo.GONE]
        os.kill(pid, signal.SIGTERM)
