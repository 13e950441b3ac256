"""``container.kill``: a signal ends a container; it is started again at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.faults._container import first, recovery
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import Kill, signal_number
from chaosd.targets.model import Target

_Signal = Annotated[
    str, msgspec.Meta(description="its name, such as SIGKILL; any other must be handled in there")
]
_Restart = Annotated[bool, msgspec.Meta(description="start it again at the end if it is down")]


class ContainerKill(Fault, frozen=True, kw_only=True):
    """A container's first process is killed, and all others with it. This cannot be undone.

    To the engine it is a crash: a container with a restart policy is up again at once.
    """

    name: ClassVar[str] = "container.kill"
    mechanisms: ClassVar = (Mechanism("signal"),)
    irreversible: ClassVar[bool] = True
    ends_target: ClassVar[bool] = True

    signal: _Signal = "SIGKILL"
    restart: _Restart = True

    def check(self) -> list[str]:
        """A signal that this system has not."""
        known = signal_number(self.signal)
        return [] if known else [f"signal {self.signal!r} is unknown: one such as SIGKILL, SIGTERM, SIGHUP"]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The recovery step first, so that it is on record before the deed."""
        process = first(target, self.name)
        return [*(recovery(target) if self.restart else ()), Kill(process, signal_number(self.signal))]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What cannot be undone, and what will be."""
        sent = f"{target.spec} gets {self.signal}; this cannot be undone"
        back = (
            "it is started again at the end if it is down" if self.restart else "by its restart policy alone"
        )
        return [sent, f"{target.spec}: {back}"]
