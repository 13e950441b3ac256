"""``process.pulse``: a target stands still and goes on, again and again."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from chaosd.faults.base import Planning
from chaosd.faults.process_pause import ProcessPause
from chaosd.targets.model import Target
from chaosd.units import Duration

_Stopped = Annotated[Duration, msgspec.Meta(description="how long it stands still at a time")]
_Running = Annotated[Duration, msgspec.Meta(description="how long it runs in between")]
_LEAST = 0.1


class ProcessPulse(ProcessPause, frozen=True, kw_only=True):
    """Every thread of a target stops and runs in turns, as in a host that has too little CPU or memory."""

    name: ClassVar[str] = "process.pulse"

    stopped: _Stopped = Duration(0.5)
    running: _Running = Duration(1.5)

    @property
    def shape(self) -> tuple[float, float]:
        """For how long it is in force and for how long it is not, in seconds, over and over."""
        return float(self.stopped), float(self.running)

    def check(self) -> list[str]:
        """The engine acts ten times a second."""
        short = [name for name in ("stopped", "running") if getattr(self, name) < _LEAST]
        return [f"{name} {getattr(self, name)} is under {Duration(_LEAST)}" for name in short]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How often, and how much is left of its time."""
        share = self.running / (self.stopped + self.running)
        turns = f"stands still for {self.stopped} and runs for {self.running}, in turns"
        return [f"{target.spec} {turns}: {share:.0%} of its time is left"]
