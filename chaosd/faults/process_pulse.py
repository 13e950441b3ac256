"""``process.pulse``: a target stands still and goes on, again and again."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from chaosd.faults.base import Planning
from chaosd.faults.process_pause import ProcessPause
from chaosd.shape import Pulse, Shape
from chaosd.targets.model import Target
from chaosd.units import Duration

_Stopped = Annotated[Duration, msgspec.Meta(description="how long it stands still at a time")]
_Running = Annotated[Duration, msgspec.Meta(description="how long it runs in between")]


class ProcessPulse(ProcessPause, frozen=True, kw_only=True):
    """Every thread of a target stops and runs in turns, as in a host that has too little CPU or memory."""

    name: ClassVar[str] = "process.pulse"

    stopped: _Stopped = Duration(0.5)
    running: _Running = Duration(1.5)

    @property
    def shape(self) -> Shape:
        """There and gone in turns."""
        return Pulse(on=self.stopped, off=self.running)

    def check(self) -> list[str]:
        """As of any pulse."""
        return self.shape.check()

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How often, and how much is left of its time."""
        share = self.running / (self.stopped + self.running)
        turns = f"stands still for {self.stopped} and runs for {self.running}, in turns"
        return [f"{target.spec} {turns}: {share:.0%} of its time is left"]
