"""``network.duplicate``: packets of the target arrive twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from chaosd.faults._network import NetworkFault, gated
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import GATE
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target


class NetworkDuplicate(NetworkFault, frozen=True, kw_only=True):
    """The chosen packets are sent twice, by the gate itself, so that no netem is needed."""

    name: ClassVar[str] = "network.duplicate"
    mechanisms: ClassVar = (Mechanism("gate", (GATE,)),)

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that doubles."""
        return gated(self, target, at, "double", self.rule(at), {})

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How many arrive twice; TCP hides it from the application."""
        return [f"{self.percent} of {self.of} of {target.spec} ({self.filters(target, at)}) arrive twice"]
