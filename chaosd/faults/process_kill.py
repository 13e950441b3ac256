"""``process.kill``: a signal ends the target; a unit or container is started again at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import Kill, family, signal_number
from chaosd.kernel.restart import Restart, running
from chaosd.targets.model import Target

_Tree = Annotated[bool, msgspec.Meta(description="every process of the target, not only the leading one")]
_Restart = Annotated[
    bool, msgspec.Meta(description="start a unit or container again at the end if it is down")
]


class ProcessKill(Fault, frozen=True, kw_only=True):
    """The target's process gets a signal, SIGKILL if no other is named. This cannot be undone."""

    name: ClassVar[str] = "process.kill"
    mechanisms: ClassVar = (Mechanism("signal"),)
    irreversible: ClassVar[bool] = True
    ends_target: ClassVar[bool] = True

    signal: Annotated[str, msgspec.Meta(description="its name, such as SIGTERM or TERM")] = "SIGKILL"
    tree: _Tree = False
    restart: _Restart = True

    def check(self) -> list[str]:
        """A signal that this system has not."""
        known = signal_number(self.signal)
        return [] if known else [f"signal {self.signal!r} is unknown: one such as SIGKILL, SIGTERM, SIGHUP"]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The recovery step first, so that it is on record before the deed; then the kills."""
        alive = [process for process in target.processes if process.alive()]
        found = family(alive) if self.tree else alive[:1]
        if not found:
            raise ChaosdError(f"{target.spec} has no process to kill", hint="it has ended")
        if {1, os.getpid()} & {process.pid for process in found}:
            raise ChaosdError(f"{target.spec} holds pid 1 or chaosd itself", hint="aim at something else")
        back = (
            [Restart(target.manager)] if self.restart and target.manager and running(target.manager) else []
        )
        return [*back, *(Kill(process, signal_number(self.signal)) for process in found)]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What cannot be undone, and what will be."""
        back = f"{target.manager} is started again at the end if it is down"
        alone = "nothing starts it again but what started it before"
        sent = f"{target.spec} gets {self.signal}; this cannot be undone"
        return [sent, back if self.restart and target.manager else alone]
