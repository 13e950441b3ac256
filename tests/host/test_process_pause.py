"""Pause and kill: progress stops and goes on, what stood still before stands still after."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from container_engine import DOCKER, PODMAN, engine
from resources import applied, bare, enter, group, grows, owner, plan, revert_elsewhere, ticker
from world import cgroup, python, spawn, until

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.faults.process_kill import ProcessKill
from chaosd.faults.process_pause import ProcessPause
from chaosd.kernel.capability import Capability
from chaosd.kernel.cgroup import FREEZERS, UNIFIED, CgroupRef, hierarchies
from chaosd.kernel.cgroup_file import ControlFile
from chaosd.kernel.cgroup_scrub import leftovers
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.pause import Pause
from chaosd.kernel.process import Kill, ProcessRef, descendants, family, stopped
from chaosd.kernel.restart import Restart
from chaosd.targets.model import Target

FORKS = """
import os, sys, time
while True:
    if os.fork() == 0:
        time.sleep(2); os._exit(0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
    time.sleep(0.03)
"""


def evidence(edits: list[Edit]) -> Evidence | None:
    return edits[0].evidence()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_tree_stands_still_and_goes_on(tmp_path: Path, elsewhere: bool) -> None:
    """A bare process and its child make no progress while paused, and do again after."""
    files = tmp_path / "ticks", tmp_path / "ticks.child"
    with spawn(ticker(files[0], child=True)) as process:
        until(lambda: all(map(grows, files)), "no progress")
        with applied(edits := plan(ProcessPause(), bare(process.pid)), elsewhere=elsewhere):
            assert not any(map(grows, files))
            assert evidence(edits) == Evidence(2, 2, unit="processes")
            assert [line for line in leftovers() if f"process {process.pid} " in line]
        assert all(map(grows, files))


def test_without_its_tree(tmp_path: Path) -> None:
    """``tree: false`` leaves the child running."""
    with spawn(ticker(tmp_path / "ticks", child=True)) as process:
        until(lambda: grows(tmp_path / "ticks.child"), "no progress")
        with applied(plan(ProcessPause(tree=False), bare(process.pid))):
            assert not grows(tmp_path / "ticks")
            assert grows(tmp_path / "ticks.child")


def test_a_process_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    """A child somebody had stopped before the run is still stopped after it."""
    with spawn(ticker(tmp_path / "ticks", child=True)) as process:
        until(lambda: descendants(process.pid), "no child")
        child = ProcessRef.of(descendants(process.pid)[0])
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: stopped(child), "not stopped")
        edits = plan(ProcessPause(), bare(process.pid))
        with applied(edits, elsewhere=True):
            assert stopped(ProcessRef.of(process.pid))
        assert stopped(child)
        assert grows(tmp_path / "ticks")
        os.kill(child.pid, signal.SIGCONT)


def test_children_that_appear_meanwhile_are_stopped_too() -> None:
    """Every child of a process that forks without pause is stopped, and continues to its end."""
    with spawn(python(FORKS)) as process:
        until(lambda: len(descendants(process.pid)) > 10, "no children")
        target = bare(process.pid)
        edits = plan(ProcessPause(), target)
        time.sleep(0.1)
        with applied(edits, elsewhere=True):
            held = family(target.processes)
            assert len(held) > 5
            assert all(map(stopped, held))
        until(lambda: not any(member.alive() for member in held[1:]), "a child was forgotten")


def test_continued_by_somebody_else(tmp_path: Path) -> None:
    """A process that somebody continued is reported, and a revert does nothing to it."""
    with spawn(ticker(tmp_path / "ticks")) as process:
        until(lambda: grows(tmp_path / "ticks"), "no progress")
        (edit,) = plan(ProcessPause(), bare(process.pid))
        with applied([edit]):
            assert not edit.lost()
            os.kill(process.pid, signal.SIGCONT)
            until(lambda: "somebody else" in edit.lost(), "not noticed")


@pytest.mark.parametrize("key", [*FREEZERS])
def test_a_cgroup_is_frozen_whole(tmp_path: Path, key: str) -> None:
    """Everything in a cgroup stands still, one started in it meanwhile included."""
    if key not in hierarchies():
        pytest.skip(f"no {key or 'v2'} hierarchy")
    with (
        group_in(key) as ref,
        spawn(ticker(tmp_path / "a", child=True)) as one,
        spawn(ticker(tmp_path / "b")) as two,
    ):
        until(lambda: grows(tmp_path / "a.child") and grows(tmp_path / "b"), "no progress")
        for pid in (one.pid, *descendants(one.pid)):
            enter(pid, ref)
        edits = plan(ProcessPause(), owner(key, ref))
        assert [type(edit) for edit in edits] == [ControlFile]
        with applied(edits, elsewhere=True):
            enter(two.pid, ref)
            until(lambda: evidence(edits) == Evidence(3, 3, unit="processes"), "not frozen")
            assert not any(grows(tmp_path / name) for name in ("a", "a.child", "b"))
            assert [line for line in leftovers() if ref.path in line]
            with pytest.raises(ChaosdError, match="frozen already"):
                plan(ProcessPause(), owner(key, ref))
        assert all(grows(tmp_path / name) for name in ("a", "a.child", "b"))


@contextmanager
def group_in(key: str) -> Iterator[CgroupRef]:
    if key == UNIFIED:
        with cgroup() as ref:
            yield ref
    else:
        with group(key) as (_, ref):
            yield ref


def test_thawed_by_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A frozen cgroup that somebody thawed is lost to us."""
    if UNIFIED not in hierarchies():
        pytest.skip("no v2 hierarchy")
    with cgroup() as ref, spawn(ticker(tmp_path / "ticks")) as process:
        enter(process.pid, ref)
        (edit,) = plan(ProcessPause(), owner(UNIFIED, ref))
        edit.apply()
        Path(ref.path, "cgroup.freeze").write_text("0", "ascii")
        assert "changed by somebody else" in edit.lost()
        assert revert_elsewhere([edit]) == [Undo.GONE]


def test_kill_and_nothing_else() -> None:
    """The signal ends the process; nothing can undo it, and the one beside it lives."""
    with spawn(["sleep", "60"]) as process, spawn(["sleep", "60"]) as other:
        edits = plan(ProcessKill(signal="term"), bare(process.pid))
        assert ProcessKill.irreversible
        with applied(edits, elsewhere=True):
            assert process.wait(5) == -signal.SIGTERM
            assert evidence(edits) == Evidence(1, 1, unit="processes")
        assert other.poll() is None


def test_kill_of_a_tree(tmp_path: Path) -> None:
    """With ``tree`` the children go as well."""
    with spawn(ticker(tmp_path / "ticks", child=True)) as process:
        until(lambda: descendants(process.pid), "no child")
        members = family(bare(process.pid).processes)
        with applied(plan(ProcessKill(tree=True), bare(process.pid))):
            assert process.wait(5) == -signal.SIGKILL
            until(lambda: not any(member.alive() for member in members), "one lives")


def test_a_signal_that_is_caught_is_sent_once() -> None:
    """A signal the process handles counts as injected though the process lives on."""
    code = """if True:
        import signal, time
        signal.signal(signal.SIGHUP, lambda *_: print("hup", flush=True))
        print(flush=True)
        while True: time.sleep(1)
    """
    with spawn(python(code)) as process:
        assert process.stdout
        process.stdout.readline()
        edits = plan(ProcessKill(signal="SIGHUP"), bare(process.pid))
        with applied(edits):
            assert process.stdout.readline() == "hup\n"
            assert evidence(edits) == Evidence(1, 1, unit="processes")
        assert process.poll() is None


def test_a_reused_pid_is_never_hit() -> None:
    """Another start time means another process: no signal is sent."""
    with spawn(["sleep", "60"]) as process:
        real = ProcessRef.of(process.pid)
        stranger = ProcessRef(real.pid, real.start_time + 1)
        kill, pause = Kill(stranger), Pause((stranger,))
        kill.apply()
        with pytest.raises(ChaosdError, match="has ended"):
            pause.apply()
        assert pause.revert() is Undo.GONE
        assert real.alive()
        assert not stopped(real)
        assert kill.evidence() == Evidence(1, 0, unit="processes")


def test_bad_signals_and_forbidden_targets_are_refused() -> None:
    """One line that says what is wrong."""
    assert ProcessKill(signal="SIGFOO").check()
    assert not ProcessKill(signal="usr1").check()
    with pytest.raises(ChaosdError, match="chaosd itself"):
        plan(ProcessKill(), bare(os.getpid()))
    with pytest.raises(ChaosdError, match="chaosd itself"):
        plan(ProcessPause(), bare(os.getpid()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [DOCKER, PODMAN], ids=["docker", "podman"])
def test_restart_starts_a_container_that_is_down(kind: Capability, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was up before is up after; what its manager has started by itself is left alone."""
    with engine(kind) as running:
        monkeypatch.setenv("DOCKER_HOST", running.url)
        container = running.run("again")
        container.reload()
        target = Target("container:again", (ProcessRef.of(container.attrs["State"]["Pid"]),),
                        manager=f"container:{container.id}")  # fmt: skip
        edits = plan(ProcessKill(), target)
        assert [type(edit) for edit in edits] == [Restart, Kill]
        for edit in edits:
            edit.apply()
            assert edit.present()
        assert edits[0].revert() is Undo.DONE
        assert not edits[0].present()
        container.reload()
        assert container.status == "running"
        os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
        assert revert_elsewhere(edits) == [Undo.NEVER, Undo.DONE]
        assert revert_elsewhere(edits) == [Undo.NEVER, Undo.GONE]


def test_cgroup_of_the_test_is_the_one_of_the_ref() -> None:
    """A cgroup made anew at the same path is another one."""
    if UNIFIED not in hierarchies():
        pytest.skip("no v2 hierarchy")
    with cgroup() as ref:
        stale = CgroupRef(ref.path, ref.inode + 1)
        edit = ControlFile(stale, "cgroup.freeze", "0", "1")
        assert edit.revert() is Undo.GONE
        with pytest.raises(TargetLostError, match="gone"):
            edit.apply()
