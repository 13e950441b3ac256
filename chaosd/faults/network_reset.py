"""``network.reset``: connections of the target break, as when a firewall or a peer forgets them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._network import NetworkFault, netns_of
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import RESET
from chaosd.kernel.edit import Edit
from chaosd.kernel.reset import Reset
from chaosd.targets.members import members
from chaosd.targets.model import Target
from chaosd.units import Duration


class NetworkReset(NetworkFault, frozen=True, kw_only=True):
    """Open TCP connections are torn down at both ends; new ones can be made. This cannot be undone."""

    name: ClassVar[str] = "network.reset"
    mechanisms: ClassVar = (Mechanism("destroy", (RESET,), "the kernel aborts sockets (SOCK_DESTROY)"),)
    takes: ClassVar[str] = "processes"
    irreversible: ClassVar[bool] = True

    protocol: Annotated[str, Meta(description="tcp; no other has connections to reset")] = "tcp"
    every: Annotated[Duration, Meta(description="again after so long, if not only at the start")] = Duration(
        0
    )

    def check(self) -> list[str]:
        """Filters that a connection has, and time between two sweeps."""
        wrong = super().check()
        if self.protocol != "tcp":
            wrong.append("protocol: only tcp has connections to reset")
        if self.direction != "egress" or self.devices or self.of != "packets":
            wrong.append("direction, devices and of mean nothing for a connection, which has both directions")
        if 0 < self.every < 0.1:
            wrong.append(f"every: {self.every} is shorter than 100ms")
        return wrong

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One edit; in a namespace of the target's own everybody's connections are meant."""
        entire = target.own_netns and target.spec != "host"
        who = None if entire else members(target)
        yield Reset(
            at.run,
            at.index,
            netns_of(target),
            who,
            self.filters(target, at),
            self.rule(at),
            float(self.every),
        )

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What both ends see."""
        share = f"{self.percent} of the open connections" if self.percent < 100 else "every open connection"
        again = f", and again every {self.every}" if self.every else ""
        kept = ["the operators' own connections are left alone"] if target.all_traffic and at.operator else []
        said = f"{share} of {target.spec} ({self.filters(target, at)}) breaks{again}; this cannot be undone"
        return [said, "the target gets ECONNABORTED, its peer ECONNRESET", *kept]
