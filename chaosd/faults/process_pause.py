"""``process.pause``: a target stands still until the end: no answer, no exit, connections stay open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.cgroup import FREEZER
from chaosd.kernel.cgroup_freeze import freeze
from chaosd.kernel.edit import Edit
from chaosd.kernel.pause import Pause
from chaosd.kernel.process import family, stopped
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
        found = family(target.processes) if self.tree else [p for p in target.processes if p.alive()]
        pids = [process.pid for process in found]
        if os.getpid() in pids:
            raise ChaosdError(f"{target.spec} holds chaosd itself", hint="aim at something else")
        if at.mechanism == "freezer" and (edit := freeze(target.cgroups, pids)) is not None:
            return [edit]
        already = tuple(process for process in found if stopped(process))
        if len(already) == len(found):
            said = "is stopped already" if found else "has no processes"
            raise ChaosdError(f"{target.spec} {said}", hint="see: chaosd doctor")
        return [Pause(tuple(found), already, self.tree)]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How long."""
        return [f"{target.spec} does nothing for {at.duration:g}s; the kernel still takes connections for it"]
