"""``process.pause``: a target stands still until the end: no answer, no exit, connections stay open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.cgroup import FREEZER, UNIFIED, CgroupRef, members
from chaosd.kernel.cgroup_file import ControlFile, change
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import Pause, family, stopped
from chaosd.targets.model import Target

_Tree = Annotated[bool, msgspec.Meta(description="with all descendants (a cgroup is always paused whole)")]


class ProcessPause(Fault, frozen=True, kw_only=True):
    """Every thread of a target stops running, as in a long garbage collection or a stalled VM."""

    name: ClassVar[str] = "process.pause"
    mechanisms: ClassVar = (
        Mechanism("freezer", (FREEZER,), "a target that shares its cgroup is stopped by signal"),
        Mechanism("signal", note="SIGSTOP, which the parent can see"),
    )

    tree: _Tree = True

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The freezer for a target that owns its cgroup, else one stop for its processes."""
        if at.mechanism == "freezer" and (edit := _freeze(target)) is not None:
            return [edit]
        found = family(target.processes) if self.tree else list(target.processes)
        if os.getpid() in [process.pid for process in found]:
            raise ChaosdError(f"{target.spec} holds chaosd itself", hint="aim at something else")
        already = tuple(process for process in found if stopped(process))
        if len(already) == len(found):
            raise ChaosdError(f"{target.spec} is stopped already", hint="continue it first: kill -CONT")
        return [Pause(tuple(found), already, self.tree)]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How long."""
        return [f"{target.spec} does nothing for {at.duration:g}s; the kernel still takes connections for it"]


def _freeze(target: Target) -> ControlFile | None:
    for key, file, frozen in ((UNIFIED, "cgroup.freeze", "1"), ("freezer", "freezer.state", "FROZEN")):
        ref = target.cgroups.get(key)
        if ref is not None and _whole(ref, target):
            return _checked(change(ref, file, frozen), target)
    return None


def _whole(ref: CgroupRef, target: Target) -> bool:
    inside = set(members(ref.path))
    return all(process.pid in inside for process in target.processes if process.alive())


def _checked(edit: ControlFile, target: Target) -> ControlFile:
    if os.getpid() in members(edit.cgroup.path):
        raise ChaosdError(f"{target.spec} holds chaosd itself", hint="aim at something else")
    if edit.before == edit.after:
        raise ChaosdError(f"{target.spec} is frozen already", hint="thaw it first")
    return edit
