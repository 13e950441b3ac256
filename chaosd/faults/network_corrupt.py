"""``network.corrupt``: packets of the target arrive with a flipped bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from chaosd.faults._network import NetworkFault
from chaosd.faults._queue import NETEM_OR_RELAY, Treatment, queued
from chaosd.faults.base import Planning
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target


class NetworkCorrupt(NetworkFault, frozen=True, kw_only=True):
    """One bit of each chosen packet is flipped; checksums are left as they were, so most are discarded."""

    name: ClassVar[str] = "network.corrupt"
    mechanisms: ClassVar = NETEM_OR_RELAY

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that picks the packets, and netem or the relay that spoils every one of them."""
        return queued(self, target, at, Treatment(corrupt=1.0))

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What the receiver makes of it."""
        hit = f"{self.percent} of {self.of} of {target.spec} ({self.filters(target, at)})"
        return [f"{hit} arrive damaged; the receiver discards them where a checksum shows it"]
