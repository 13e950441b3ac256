"""``network.rate``: the target's packets share a narrow link."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._network import NetworkFault
from chaosd.faults._queue import TBF_OR_RELAY, Treatment, queued
from chaosd.faults.base import Planning
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target
from chaosd.units import Duration, Rate


class NetworkRate(NetworkFault, frozen=True, kw_only=True):
    """The matched packets together get no more than ``rate``; they wait, and beyond the queue are lost."""

    name: ClassVar[str] = "network.rate"
    mechanisms: ClassVar = TBF_OR_RELAY

    rate: Annotated[Rate, Meta(description="bandwidth in each direction that is named")]
    queue: Annotated[
        Duration, Meta(description="the longest wait before packets are lost; 32 may always wait")
    ] = Duration(1)

    def check(self) -> list[str]:
        """A rate at which a packet passes within the minute, and a queue."""
        wrong = super().check()
        if self.rate < 1000:
            wrong.append(f"rate: {self.rate} is under 1kbit")
        if not self.queue:
            wrong.append("queue: 0 loses every packet that has to wait")
        return wrong

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that sends the packets through a token bucket."""
        return queued(self, target, at, Treatment(rate=float(self.rate), queue=float(self.queue)))

    def effect(self, target: Target, at: Planning) -> list[str]:
        """The bandwidth, and how long a megabyte takes."""
        megabyte = Duration(8e6 / self.rate)
        who = f"{target.spec} ({self.direction}, {self.filters(target, at)})"
        return [f"{who}: at most {self.rate}/s; a megabyte takes {megabyte}"]
