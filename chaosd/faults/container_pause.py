"""``container.pause``: every process of a container stands still until the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from chaosd.errors import ChaosdError
from chaosd.faults._container import first
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.cgroup import FREEZER
from chaosd.kernel.cgroup_freeze import freeze
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import family
from chaosd.targets.model import Target


class ContainerPause(Fault, frozen=True, kw_only=True):
    """A container stands still, with what was started in it later; the kernel takes connections for it.

    It is frozen as the engine's own pause does it, but without the engine, which may be hung or gone
    when the container must go on.
    """

    name: ClassVar[str] = "container.pause"
    mechanisms: ClassVar = (Mechanism("freezer", (FREEZER,)),)

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The freezer of the cgroup that the engine has made for it."""
        pids = [process.pid for process in family([first(target, self.name), *target.processes])]
        edit = freeze(target.cgroups, pids)
        if edit is None:
            raise ChaosdError(f"{target.spec} has no freezer cgroup to itself", hint="process.pause")
        return [edit]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How long, and what the engine says of it meanwhile."""
        still = f"{target.spec} does nothing for {at.duration:g}s; the kernel still takes connections for it"
        return [still, "the engine calls it running, and cannot stop it until it goes on"]
