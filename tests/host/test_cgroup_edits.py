"""The edits of cgroups one by one: foreign values, our own cgroups, v2's rules, leftovers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from resources import (
    BUSY,
    RUN,
    applied,
    bare,
    enter,
    group,
    owner,
    place,
    plan,
    revert_elsewhere,
    ticker,
)
from world import cgroup, python, spawn, until

from chaosd.errors import ChaosdError, ForeignStateError, TargetLostError
from chaosd.faults._cgroup import CpuShare
from chaosd.faults.base import Fault
from chaosd.faults.cpu_pin import CpuPin
from chaosd.faults.cpu_throttle import CpuThrottle
from chaosd.faults.memory_limit import MemoryLimit
from chaosd.faults.pids_limit import PidsLimit
from chaosd.kernel.cgroup import (
    UNIFIED,
    CgroupRef,
    hierarchies,
    home_of,
    members,
    parent_of,
    read,
    root,
    write,
)
from chaosd.kernel.cgroup_controller import DEFAULTS, Controller, settings_of
from chaosd.kernel.cgroup_file import change, configuration
from chaosd.kernel.cgroup_group import Move, Subgroup, dissolve
from chaosd.kernel.cgroup_scrub import remove, strays
from chaosd.kernel.edit import Undo
from chaosd.kernel.process import ProcessRef
from chaosd.restore import recover_stale
from chaosd.units import Size

BREEDER = """
import os, time
for _ in range(4):
    os.fork()
while True:
    if os.fork() == 0:
        time.sleep(0.05); os._exit(0)
    os.waitpid(-1, 0)
"""


def on_v2(controller: str) -> None:
    if home_of(controller) != UNIFIED:
        pytest.skip(f"cgroup v2 has no {controller} controller here")


def test_a_value_of_somebody_else_is_left_alone() -> None:
    """Changed before: refused. Changed after: foreign. Put back by hand: already gone."""
    with group("pids") as (key, ref):
        if key == UNIFIED and "pids" not in read(ref, "cgroup.controllers").split():
            pytest.skip("the root has not enabled pids")
        edit = change(ref, "pids.max", "7")
        write(ref, "pids.max", "9")
        with pytest.raises(ForeignStateError, match="changed to 9"):
            edit.apply()
        write(ref, "pids.max", "max")
        edit.apply()
        assert edit.present()
        write(ref, "pids.max", "9")
        assert "somebody else" in edit.lost()
        assert not edit.present()
        assert revert_elsewhere([edit]) == [Undo.FOREIGN]
        assert read(ref, "pids.max") == "9"
        write(ref, "pids.max", "max")
        assert edit.revert() is Undo.GONE


def test_a_cgroup_that_was_removed_is_done() -> None:
    """Its values went with it; one made anew at the same path is not touched."""
    with group("freezer") as (key, ref):
        path = f"{ref.path}/inner"
        os.mkdir(path)
        file, value = ("cgroup.freeze", "1") if key == UNIFIED else ("freezer.state", "FROZEN")
        edit = change(CgroupRef.at(path), file, value)
        edit.apply()
        os.rmdir(path)
        assert edit.revert() is Undo.GONE
        assert "removed" in edit.lost()
        os.mkdir(path)
        write(CgroupRef.at(path), file, value)
        assert not edit.present()
        assert edit.revert() is Undo.GONE
        with pytest.raises(TargetLostError):
            edit.apply()
        assert value in read(CgroupRef.at(path), file)


def test_a_cgroup_for_the_watchdog() -> None:
    """One process moved into a new cgroup at the root of the hierarchy, and back."""
    key = UNIFIED if UNIFIED in hierarchies() else next(iter(hierarchies()))
    with spawn(["sleep", "60"]) as process:
        home = CgroupRef.at(place(process.pid, key))
        group_ = Subgroup(root(key), f"chaosd-{RUN}-w", home)
        move = Move((ProcessRef.of(process.pid),), home, group_.path)
        with applied([group_, move], elsewhere=True):
            assert place(process.pid, key) == group_.path
            assert not move.lost()
            with pytest.raises(ForeignStateError, match="is there already"):
                group_.apply()
        assert place(process.pid, key) == home.path


def test_everything_in_our_cgroup_goes_home() -> None:
    """Also cgroups that somebody made in it, and the processes in those."""
    with group("freezer") as (key, ref), spawn(["sleep", "60"]) as process:
        edit = Subgroup(ref, f"chaosd-{RUN}-0", ref)
        edit.apply()
        os.makedirs(f"{edit.path}/a/b")
        os.mkdir(f"{edit.path}/c")
        enter(process.pid, CgroupRef.at(f"{edit.path}/a/b"))
        assert edit.revert() is Undo.DONE
        assert place(process.pid, key) == ref.path
        assert not edit.present()
        assert edit.revert() is Undo.GONE


def test_a_cgroup_whose_processes_fork_without_pause_is_emptied() -> None:
    """Sixteen processes that fork all the time come home within the two seconds that are given."""
    with group("freezer") as (_, ref), spawn(python(BREEDER)) as process:
        edits = [Subgroup(ref, f"chaosd-{RUN}-0", ref)]
        edits[0].apply()
        try:
            enter(process.pid, CgroupRef.at(edits[0].path))
            time.sleep(0.3)
        finally:
            assert edits[0].revert() is Undo.DONE


def test_moved_by_somebody_else() -> None:
    """A process that somebody took out of our cgroup stays where they put it."""
    with group("freezer") as (key, ref), group("freezer") as (_, other), spawn(["sleep", "60"]) as process:
        enter(process.pid, ref)
        group_ = Subgroup(ref, f"chaosd-{RUN}-0", ref)
        move = Move((ProcessRef.of(process.pid),), ref, group_.path)
        group_.apply()
        move.apply()
        enter(process.pid, other)
        assert "moved by somebody else" in move.lost()
        assert revert_elsewhere([group_, move]) == [Undo.FOREIGN, Undo.DONE]
        assert place(process.pid, key) == other.path


def test_home_was_removed_meanwhile() -> None:
    """Then the process goes to the nearest cgroup above that is still there."""
    with group("freezer") as (key, ref), spawn(["sleep", "60"]) as process:
        inner = f"{ref.path}/inner"
        os.mkdir(inner)
        enter(process.pid, home := CgroupRef.at(inner))
        group_ = Subgroup(ref, f"chaosd-{RUN}-0", home)
        move = Move((ProcessRef.of(process.pid),), home, group_.path)
        group_.apply()
        move.apply()
        os.rmdir(inner)
        assert move.revert() is Undo.DONE
        assert group_.revert() is Undo.DONE
        assert place(process.pid, key) == ref.path


def test_a_process_that_ended_cannot_be_moved() -> None:
    """It is lost, not ignored."""
    with group("freezer") as (_, ref), spawn(["sleep", "60"]) as process:
        gone = ProcessRef.of(process.pid)
        process.kill()
        process.wait()
        with pytest.raises(TargetLostError, match="has ended"):
            Move((gone,), ref, ref.path).apply()


def test_leftovers_of_a_dead_run_are_found_and_removed() -> None:
    """Only what bears our mark and belongs to no live run, its processes sent to the cgroup above."""
    with group("freezer") as (key, ref), spawn(["sleep", "60"]) as process:
        for name in (
            f"chaosd-{RUN}-1",
            "chaosd-00beef-0",
            "chaosd_not_ours",
            "chaosd-demo-7",
            f"chaosd-probe-{os.getpid()}-1",
        ):
            os.mkdir(f"{ref.path}/{name}")
        stray = f"{ref.path}/chaosd-00beef-0"
        enter(process.pid, CgroupRef.at(stray))
        assert [path for path in strays({RUN}) if path.startswith(ref.path)] == [stray]
        assert remove(stray) is Undo.DONE
        assert place(process.pid, key) == ref.path
        with pytest.raises(ValueError, match="mark"):
            remove(f"{ref.path}/chaosd_not_ours")
        assert f"{ref.path}/chaosd-{RUN}-1" in strays()
        for name in os.listdir(ref.path):
            if os.path.isdir(f"{ref.path}/{name}"):
                os.rmdir(f"{ref.path}/{name}")


def test_a_trial_that_was_killed_is_swept_away_by_the_next_run() -> None:
    top = next(iter(hierarchies().values()))
    with spawn(["true"]) as process:
        process.wait()
    dead, alive = (f"{top}/chaosd-probe-{pid}-1" for pid in (process.pid, os.getpid()))
    for path in (dead, alive):
        os.mkdir(path)
    try:
        recover_stale()
        assert (os.path.exists(dead), os.path.exists(alive)) == (False, True)
    finally:
        os.rmdir(alive)


def test_configuration_holds_settings_and_no_counters() -> None:
    """Two readings are the same while the cgroup works; a changed value shows."""
    with group("memory") as (key, ref), spawn(python(BUSY)) as process:
        enter(process.pid, ref)
        before = configuration(ref.path)
        time.sleep(0.3)
        assert configuration(ref.path) == before
        assert len(before) > 3
        file, value = (
            ("cgroup.max.depth", "5") if key == UNIFIED else ("memory.soft_limit_in_bytes", "1048576")
        )
        write(ref, file, value)
        changed = configuration(ref.path)
        assert [name for name in before if before[name] != changed[name]] == [f"{ref.path}/{file}"]
        assert configuration(f"{ref.path}/none") == {}


# cgroup v2 with controllers: hosts without v1, and the VM kernels


def test_the_defaults_are_what_a_new_cgroup_holds() -> None:
    """Our list of default values is the kernel's."""
    on_v2("memory")
    with cgroup() as ref:
        above = CgroupRef.at(parent_of(ref.path))
        missing = {"cpu", "cpuset", "memory", "pids", "io"} - {*read(above, "cgroup.subtree_control").split()}
        edits = [Controller(above, name) for name in missing]
        with applied(edits) if edits else cgroup():
            assert settings_of(ref.path) == []
            files = {os.path.basename(name) for name in configuration(ref.path)}
            core = {name for name in files if name.startswith("cgroup.")}
            assert files - core <= set(DEFAULTS)


def test_a_controller_is_enabled_and_disabled() -> None:
    """Nothing is left enabled that was not; one that a stranger began to use stays."""
    on_v2("pids")
    with cgroup() as ref, applied(plan(PidsLimit(limit=50), owner(UNIFIED, ref))):
        os.mkdir(f"{ref.path}/child")
        edit = Controller(ref, "pids")
        with applied([edit], elsewhere=True):
            assert Path(ref.path, "child/pids.max").exists()
            with pytest.raises(ForeignStateError, match="meanwhile"):
                edit.apply()
        edit.apply()
        write(CgroupRef.at(f"{ref.path}/child"), "pids.max", "5")
        assert revert_elsewhere([edit]) == [Undo.FOREIGN]
        assert edit.present()
        write(CgroupRef.at(f"{ref.path}/child"), "pids.max", "max")
        assert edit.revert() is Undo.DONE
        os.rmdir(f"{ref.path}/child")


@pytest.mark.parametrize(
    "fault",
    [CpuThrottle(percent=CpuShare(10)), CpuPin(cpus=[0]), PidsLimit(headroom=3)],
    ids=lambda fault: fault.name,
)
def test_a_shared_v2_cgroup_gets_a_threaded_child(fault: Fault) -> None:
    """With processes beside it in its cgroup, the target still goes below all of that cgroup's limits."""
    on_v2("cpu")
    with cgroup() as ref, spawn(python(BUSY)) as one, spawn(["sleep", "60"]) as other:
        for process in (one, other):
            enter(process.pid, ref)
        with applied(plan(fault, bare(one.pid)), elsewhere=True):
            assert place(one.pid, UNIFIED).startswith(f"{ref.path}/chaosd-")
            assert place(other.pid, UNIFIED) == ref.path
            assert read(ref, "cgroup.type") == "domain threaded"
        assert read(ref, "cgroup.type") == "domain"
        assert read(ref, "cgroup.subtree_control") == ""
        assert place(one.pid, UNIFIED) == ref.path


def test_two_faults_share_the_cgroup_of_a_bare_process() -> None:
    """The plans have the cgroup and the move in common, so that they can be done once."""
    with group("cpu") as (key, ref), spawn(python(BUSY)) as one, spawn(["sleep", "60"]) as other:
        if key != UNIFIED or home_of("pids") != UNIFIED:
            pytest.skip("the controllers are in hierarchies of their own")
        for process in (one, other):
            enter(process.pid, ref)
        faults = (CpuThrottle(percent=CpuShare(10)), PidsLimit(headroom=3))
        edits = list(dict.fromkeys(edit for fault in faults for edit in plan(fault, bare(one.pid))))
        assert len({edit.slot for edit in edits}) == len(edits)
        with applied(edits, elsewhere=True):
            inside = CgroupRef.at(place(one.pid, UNIFIED))
            assert read(inside, "cpu.max") == "10000 100000"
            assert read(inside, "pids.max") == "4"


def test_memory_of_a_process_in_a_shared_v2_cgroup() -> None:
    """Where the cgroup has no limits of its own the child is made beside it; else the plan is refused."""
    on_v2("memory")
    fault = MemoryLimit(size=Size(2**30))
    with cgroup() as ref, spawn(["sleep", "60"]) as one, spawn(["sleep", "60"]) as other:
        for process in (one, other):
            enter(process.pid, ref)
        with applied(edits := plan(fault, bare(one.pid)), elsewhere=True):
            assert place(one.pid, UNIFIED).startswith(f"{parent_of(ref.path)}/chaosd-")
        assert place(one.pid, UNIFIED) == ref.path
        enabling = [edit for edit in edits if isinstance(edit, Controller)]
        with applied(enabling) if enabling else cgroup():
            write(ref, "memory.max", str(2**30))
            with pytest.raises(ChaosdError, match="would escape memory"):
                plan(fault, bare(one.pid))
            write(ref, "memory.max", "max")


def test_a_cgroup_with_processes_and_cgroups_is_refused() -> None:
    """There no controller can be enabled; the plan says what to do instead."""
    on_v2("cpu")
    with cgroup() as ref, spawn(["sleep", "60"]) as one, spawn(["sleep", "60"]) as other:
        os.mkdir(f"{ref.path}/inner")
        enter(one.pid, ref)
        enter(other.pid, CgroupRef.at(f"{ref.path}/inner"))
        with pytest.raises(ChaosdError, match="both processes and cgroups"):
            plan(CpuThrottle(percent=CpuShare(10)), bare(one.pid))
        dissolve(f"{ref.path}/inner", ref.path)


def test_a_process_of_the_root_cgroup() -> None:
    """The root is exempt from v2's rule: the child is made right below it."""
    on_v2("memory")
    with spawn(["sleep", "60"]) as process:
        enter(process.pid, root(UNIFIED))
        with applied(plan(MemoryLimit(size=Size(2**30)), bare(process.pid)), elsewhere=True):
            assert parent_of(place(process.pid, UNIFIED)) == root(UNIFIED).path
        assert place(process.pid, UNIFIED) == root(UNIFIED).path


def test_a_write_that_reclaims_does_not_hang() -> None:
    """A limit far under what a process holds is set, or refused, well before the watchdog loses patience."""
    code = "held = bytearray(b'x') * (200 << 20)\nprint(flush=True)\ninput()"
    with group("memory") as (key, ref), spawn(python(code)) as process:
        enter(process.pid, ref)
        assert process.stdout
        process.stdout.readline()
        edits = plan(MemoryLimit(size=Size(2**20)), owner(key, ref))
        began = time.monotonic()
        try:
            with applied(edits, elsewhere=False):
                assert key == UNIFIED
        except ChaosdError:
            assert key != UNIFIED
        assert time.monotonic() - began < 4.5
        assert process.poll() is None


def test_a_killed_process_leaves_no_trace(tmp_path: Path) -> None:
    """The target dies in our cgroup: everything else goes back all the same."""
    with group("cpu") as (_, ref), spawn(ticker(tmp_path / "a")) as process, spawn(["sleep", "60"]) as other:
        for one in (process, other):
            enter(one.pid, ref)
        edits = plan(CpuThrottle(percent=CpuShare(10)), bare(process.pid))
        with applied(edits, elsewhere=True):
            process.kill()
            process.wait()
            until(lambda: any("has ended" in edit.lost() for edit in edits), "not noticed")
        assert members(ref.path) == [other.pid]
        assert not [entry for entry in os.scandir(ref.path) if entry.is_dir()]
