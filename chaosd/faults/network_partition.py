"""``network.partition``: the target and some peers no longer hear each other, one way or both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._network import Direction, NetworkFault, gated
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import GATE
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target


class NetworkPartition(NetworkFault, frozen=True, kw_only=True):
    """Everything between the target and the peers in ``cidrs`` (all, if none are named) is lost."""

    name: ClassVar[str] = "network.partition"
    mechanisms: ClassVar = (Mechanism("gate", (GATE,)),)

    direction: Annotated[Direction, Meta(description="egress: the target is not heard")] = "both"

    def check(self) -> list[str]:
        """A partition is whole."""
        partial = (
            ["percent: a partition loses all; use network.loss for a share"] if self.percent < 100 else []
        )
        return super().check() + partial

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that drops."""
        return gated(self, target, at, "drop", self.rule(at), {})

    def effect(self, target: Target, at: Planning) -> list[str]:
        """Who does not hear whom."""
        peers = self.filters(target, at)
        what = {"egress": "is not heard by", "ingress": "does not hear", "both": "is cut off from"}
        return [f"{target.spec} {what[self.direction]} {peers}; connections hang until they time out"]
