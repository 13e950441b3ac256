"""``network.loss``: packets of the target are dropped in silence, as a bad line would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta, field

from chaosd.faults._network import NetworkFault, gated
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import GATE
from chaosd.kernel.edit import Edit
from chaosd.kernel.match import Rule
from chaosd.targets.model import Target
from chaosd.units import Percent


class NetworkLoss(NetworkFault, frozen=True, kw_only=True):
    """A share of packets is lost: one by one, in runs (correlation), or in bursts (Gilbert-Elliott)."""

    name: ClassVar[str] = "network.loss"
    mechanisms: ClassVar = (Mechanism("gate", (GATE,)),)

    correlation: Annotated[Percent, Meta(description="of each loss with the one before")] = Percent(0)
    p: Annotated[Percent, Meta(description="Gilbert-Elliott: chance that a burst begins")] = Percent(0)
    r: Annotated[Percent, Meta(description="chance that a burst ends")] = Percent(0)
    bad_loss: Annotated[Percent, Meta(description="loss within a burst")] = field(
        name="1-h", default=Percent(100)
    )
    good_loss: Annotated[Percent, Meta(description="loss between bursts")] = field(
        name="1-k", default=Percent(0)
    )

    def check(self) -> list[str]:
        """A burst needs a beginning and an end, and excludes the simple model."""
        wrong = super().check()
        bursts = self.p or self.r
        if bursts and not (self.p and self.r):
            wrong.append("p and r go together: a burst must begin and end")
        if bursts and (self.percent < 100 or self.correlation or self.of == "flows"):
            wrong.append("p and r exclude percent, correlation and of: flows")
        if self.correlation and self.of == "flows":
            wrong.append("correlation: flows are chosen one by one")
        return wrong

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate that drops."""
        rule = self.rule(at, correlation=self.correlation.fraction)
        if self.p:
            losses = (self.good_loss.fraction, self.bad_loss.fraction)
            rule = Rule(
                at.seed, self.p.fraction, self.r.fraction, *losses, budget=self.budget, fault=at.index
            )
        return gated(self, target, at, "drop", rule, {})

    def effect(self, target: Target, at: Planning) -> list[str]:
        """The share that is lost in the long run."""
        share = self.percent.fraction
        if self.p:
            bad = float(self.p) / (self.p + self.r)
            share = bad * self.bad_loss.fraction + (1 - bad) * self.good_loss.fraction
        what = f"{share:.3g} of {self.of}" if share < 1 else "every packet"
        return [f"{what} of {target.spec} ({self.direction}, {self.filters(target, at)}) is lost"]
