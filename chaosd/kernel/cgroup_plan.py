"""Where a limit goes: in place where the target owns its cgroup, else into a child of its own cgroup."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from chaosd.errors import ChaosdError
from chaosd.kernel import cgroup_io
from chaosd.kernel.cgroup import (
    UNIFIED,
    CgroupRef,
    hierarchies,
    inhabitants,
    members,
    of_process,
    parent_of,
    read,
)
from chaosd.kernel.cgroup_controller import DEFAULTS, Controller, settings_of
from chaosd.kernel.cgroup_file import ControlFile, change, value_in
from chaosd.kernel.cgroup_group import Move, Setting, Subgroup
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import ProcessRef, descendants

_THREADED = ("cpu", "cpuset", "pids")
_HINT = "start it by systemd-run --scope, or aim at a cgroup, unit or container"


def enabling(path: str, controller: str) -> list[Edit]:
    """The edits that enable a v2 controller for the children of a cgroup, from the root down."""
    above = [] if path == parent_of(path) else enabling(parent_of(path), controller)
    ref = CgroupRef.at(path)
    on = controller in read(ref, "cgroup.subtree_control").split()
    return [*above, *([] if on else [Controller(ref, controller)])]


def in_place(cgroup: CgroupRef, key: str, controller: str, settings: dict[str, str]) -> list[Edit]:
    """The edits that set values in a cgroup that the target owns.

    Raises:
        ChaosdError: it has no such control file and cannot be given it, or has the values already.
    """
    there = key != UNIFIED or controller in read(cgroup, "cgroup.controllers").split()
    files = [edit for file, value in settings.items() for edit in _changes(cgroup, file, value, there=there)]
    if not files:
        raise ChaosdError(f"{cgroup.path} has these values already: {settings}", hint="ask for others")
    if there:
        return files
    if cgroup.path == parent_of(cgroup.path):
        raise ChaosdError(
            f"{cgroup.path} is the root cgroup, which takes no limits", hint="aim at a part of it"
        )
    return [*enabling(parent_of(cgroup.path), controller), *files]


def _changes(cgroup: CgroupRef, file: str, value: str, *, there: bool) -> Sequence[Edit]:
    if file in cgroup_io.FILES:
        return cgroup_io.changes(cgroup, file, value, there=there)
    if not there:
        return [ControlFile(cgroup, file, DEFAULTS[file], value_in(file, value))]
    edit = change(cgroup, file, value)
    return [edit] if edit.before != edit.after else []


def enclose(
    processes: Sequence[ProcessRef], key: str, controller: str, name: str, settings: dict[str, str]
) -> list[Edit]:
    """The edits that put processes into a cgroup ``name`` of their own, with values set in it.

    It is a child of the cgroup each of them is in, so that every limit above goes on holding. On
    v2 a cgroup that has processes cannot enable the memory or io controller for its children (the "no
    internal process" rule); cpu, cpuset and pids can be enabled there for a *threaded* child.
    For memory and io the child is made further up, and only where no set limit is escaped by that.
    Two faults of one run that put the same processes into the same cgroup share it.

    Raises:
        ChaosdError: there is no place for it.
    """
    homes: dict[str, list[ProcessRef]] = {}
    for process in processes:
        if process.alive():
            homes.setdefault(of_process(process.pid)[key], []).append(process)
    return [
        edit
        for home, group in homes.items()
        for edit in _enclose(home, group, key, controller, name, settings)
    ]


def cpu_share(ref: CgroupRef) -> float:
    """How many CPUs' time a cgroup's own limit leaves it; infinite where none is set."""
    for file in ("cpu.max", "cpu.cfs_quota_us"):
        try:
            quota, _, period = read(ref, file).partition(" ")
            if quota in ("max", "-1"):
                break
            return int(quota) / int(period or read(ref, "cpu.cfs_period_us"))
        except FileNotFoundError:
            continue
    return float("inf")


def _enclose(
    path: str, processes: list[ProcessRef], key: str, controller: str, name: str, settings: dict[str, str]
) -> Iterator[Edit]:
    home = CgroupRef.at(path)
    leader = processes[0]
    parent = path
    extra: tuple[tuple[str, str], ...] = ()
    if key == UNIFIED and path != hierarchies()[UNIFIED]:
        if controller not in _THREADED and set(members(path)) <= _family(processes):
            yield from in_place(home, key, controller, settings)
            return
        parent, extra = _threaded(path, leader) if controller in _THREADED else _above(path, leader)
    if key == "cpuset":  # a v1 cpuset takes no process before both its lists are set
        extra = (("cpuset.mems", read(home, "cpuset.effective_mems")),)
    if key == UNIFIED:
        yield from enabling(parent, controller)
    group = Subgroup(CgroupRef.at(parent), f"{name}-{leader.pid}", home, extra)
    yield group
    for file, value in settings.items():
        if file in cgroup_io.FILES:
            yield from cgroup_io.settings(group.path, file, value)
        else:
            yield Setting(group.path, file, value)
    yield Move(tuple(processes), home, group.path)


def _family(processes: Collection[ProcessRef]) -> set[int]:
    return {pid for process in processes for pid in (process.pid, *descendants(process.pid))}


def _threaded(path: str, leader: ProcessRef) -> tuple[str, tuple[tuple[str, str], ...]]:
    for child in (entry.path for entry in os.scandir(path) if entry.is_dir()):
        domain = read(CgroupRef.at(child), "cgroup.type") != "threaded"
        if domain and members(child):
            raise ChaosdError(
                f"process {leader.pid} is in {path}, which holds both processes and cgroups", hint=_HINT
            )
    return path, (("cgroup.type", "threaded"),)


def _above(path: str, leader: ProcessRef) -> tuple[str, tuple[tuple[str, str], ...]]:
    top = hierarchies()[UNIFIED]
    escaped = settings_of(path)
    parent = parent_of(path)
    while parent != top and inhabitants(parent):
        escaped += settings_of(parent)
        parent = parent_of(parent)
    if escaped:
        said = f"process {leader.pid} shares {path}: a cgroup beside it would escape {escaped[0]}"
        raise ChaosdError(said, hint=_HINT)
    return parent, ()
