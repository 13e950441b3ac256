"""process.pulse: what is stopped can be let run in between, by signal and by the freezer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from resources import applied, bare, enter, grows, owner, plan, ticker
from test_process_pause import group_in
from world import spawn, until

from chaosd.faults.process_pulse import ProcessPulse
from chaosd.kernel.cgroup import FREEZERS, hierarchies
from chaosd.kernel.cgroup_freeze import Freeze
from chaosd.kernel.edit import Edit, Evidence
from chaosd.kernel.pause import Pause
from chaosd.units import Duration


def _pulses(edit: Pause | Freeze, files: list[Path], count: int) -> None:
    frozen = Evidence(count, count, unit="processes")
    assert edit.scales
    for _ in range(3):
        assert not any(map(grows, files))
        assert edit.evidence() == frozen
        edit.scale(0)
        assert all(map(grows, files))
        assert not edit.lost()
        assert edit.evidence() == frozen, "what was stopped before counts while it runs"
        edit.scale(0.3)
        until(lambda: not edit.lost(), "not stopped again")


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("at_the_end", [0, 1])
def test_a_tree_stops_and_runs_in_turns(tmp_path: Path, at_the_end: float, elsewhere: bool) -> None:
    """It stands still at any level, runs at 0, and runs after the end, wherever in a turn that comes."""
    files = [tmp_path / "ticks", tmp_path / "ticks.child"]
    with spawn(ticker(files[0], child=True)) as process:
        until(lambda: all(map(grows, files)), "no progress")
        edits = plan(ProcessPulse(mechanism="signal"), bare(process.pid))
        with applied(edits, elsewhere=elsewhere):
            (edit,) = edits
            assert isinstance(edit, Pause)
            _pulses(edit, files, 2)
            edit.scale(at_the_end)
        assert all(map(grows, files))


@pytest.mark.parametrize("key", [*FREEZERS])
@pytest.mark.parametrize("at_the_end", [0, 1])
def test_a_cgroup_freezes_and_thaws_in_turns(tmp_path: Path, at_the_end: float, key: str) -> None:
    if key not in hierarchies():
        pytest.skip(f"no {key or 'v2'} hierarchy")
    with group_in(key) as ref, spawn(ticker(tmp_path / "ticks")) as process:
        until(lambda: grows(tmp_path / "ticks"), "no progress")
        enter(process.pid, ref)
        edits = plan(ProcessPulse(), owner(key, ref))
        with applied(edits, elsewhere=True):
            (edit,) = edits
            assert isinstance(edit, Freeze)
            _pulses(edit, [tmp_path / "ticks"], 1)
            edit.scale(at_the_end)
        assert grows(tmp_path / "ticks")


def test_who_continues_or_stops_it_meanwhile_is_noticed(tmp_path: Path) -> None:
    with spawn(ticker(tmp_path / "ticks")) as process:
        until(lambda: grows(tmp_path / "ticks"), "no progress")
        edits: list[Edit] = plan(ProcessPulse(mechanism="signal"), bare(process.pid))
        (edit,) = edits
        assert isinstance(edit, Pause)
        with applied(edits):
            edit.scale(0)
            edit.scale(1)
            os.kill(process.pid, signal.SIGCONT)
            until(lambda: "somebody else" in edit.lost(), "not noticed")


def test_the_shape_is_what_was_asked_for() -> None:
    fault = ProcessPulse(stopped=Duration(0.2), running=Duration(3))
    assert fault.shape == (0.2, 3)
    assert not fault.check()
    assert ProcessPulse(stopped=Duration(0.05)).check() == ["stopped 50ms is under 100ms"]
