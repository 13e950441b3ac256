"""``network.delay``: packets of the target arrive later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._network import NetworkFault
from chaosd.faults._queue import NETEM_OR_RELAY, Treatment, queued
from chaosd.faults.base import Planning
from chaosd.kernel.edit import Edit
from chaosd.kernel.netem import Shape
from chaosd.targets.model import Target
from chaosd.units import Duration, Percent


class NetworkDelay(NetworkFault, frozen=True, kw_only=True):
    """What the target sends arrives later: a round trip takes ``delay`` longer, once."""

    name: ClassVar[str] = "network.delay"
    mechanisms: ClassVar = NETEM_OR_RELAY

    delay: Annotated[Duration, Meta(description="how much later")]
    jitter: Annotated[Duration, Meta(description="how much the delay varies")] = Duration(0)
    correlation: Annotated[Percent, Meta(description="of each delay with the one before")] = Percent(0)
    distribution: Annotated[Shape, Meta(description="how the delay varies")] = "uniform"

    def check(self) -> list[str]:
        """A delay, and a jitter where something is said about it."""
        wrong = super().check()
        if not self.delay and not self.jitter:
            wrong.append("delay: 0 delays nothing")
        if not self.jitter and (self.correlation or self.distribution != "uniform"):
            wrong.append("jitter: correlation and distribution need one")
        return wrong

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that sends the packets through a queue."""
        how = Treatment(float(self.delay), float(self.jitter), self.correlation.fraction, self.distribution)
        return queued(self, target, at, how)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """A round trip, and a new connection's first answer."""
        trip = float(self.delay) * (2 if self.direction == "both" else 1)
        about = f" ± {self.jitter} ({self.distribution})" if self.jitter else ""
        return [
            f"one round trip of {target.spec} ({self.filters(target, at)}): {Duration(trip)} longer{about}",
            f"a new TCP connection's first answer: {Duration(2 * trip)} later (two round trips)",
        ]
