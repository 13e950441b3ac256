"""``network.reorder``: packets of the target arrive after those sent later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._network import NetworkFault
from chaosd.faults._queue import NETEM_OR_RELAY, Treatment, queued
from chaosd.faults.base import Planning
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target
from chaosd.units import Duration, Percent


class NetworkReorder(NetworkFault, frozen=True, kw_only=True):
    """The chosen packets are held back for ``delay``; the others overtake them, and suffer nothing."""

    name: ClassVar[str] = "network.reorder"
    mechanisms: ClassVar = NETEM_OR_RELAY

    percent: Annotated[Percent, Meta(description="how many are held back")] = Percent(25)
    delay: Annotated[Duration, Meta(description="for how long")] = Duration(0.01)

    def check(self) -> list[str]:
        """Some must be held back and others not."""
        wrong = super().check()
        if not self.delay:
            wrong.append("delay: 0 holds nothing back")
        if self.percent >= 100 or self.of == "flows":
            wrong.append("percent: what is held back must be overtaken by other packets of its flow")
        return wrong

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that picks the packets, and a queue that holds these."""
        return queued(self, target, at, Treatment(delay=float(self.delay)))

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How many are late."""
        hit = f"{self.percent} of packets of {target.spec} ({self.filters(target, at)})"
        return [f"{hit} arrive {self.delay} late, after packets sent later"]
