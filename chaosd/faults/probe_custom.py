"""``probe.custom``: a user's own eBPF probe, compiled on the host, under chaosd's lease and watchdog."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta
from msgspec.structs import replace

from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel import custom_source
from chaosd.kernel.custom_child import BCC
from chaosd.kernel.custom_probe import CustomProbe
from chaosd.kernel.edit import Edit
from chaosd.kernel.match import Rule
from chaosd.targets.members import members
from chaosd.targets.model import Target
from chaosd.units import Percent


class ProbeCustom(Fault, frozen=True, kw_only=True):
    """A probe of your own in C does what it is written for, whenever it asks and the target is to be hit.

    It is detached at the end; what it has done to a process by then is for its author to answer for.
    """

    name: ClassVar[str] = "probe.custom"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = (
        Mechanism("bcc", (BCC,), "compiled on this host against its kernel headers, attached as it declares"),
    )

    source: Annotated[
        str,
        Meta(
            description="the C file; relative to the scenario's file, with inject to the working directory",
            min_length=1,
        ),
    ]
    parameters: Annotated[
        dict[str, int | str],
        Meta(description="numbers, errno names and words, which the source finds as PARAM_NAME"),
    ] = {}
    probability: Annotated[Percent, Meta(description="how likely each event is hit")] = Percent(100)
    every: Annotated[int, Meta(description="only every n-th", ge=1)] = 1
    after: Annotated[int, Meta(description="pass over so many first", ge=0)] = 0
    first: Annotated[int, Meta(description="then only so many can be hit; 0 for all", ge=0)] = 0
    budget: Annotated[int, Meta(description="stop for good after so many hits; 0 for no limit", ge=0)] = 0

    def check(self) -> list[str]:
        """Parameters that cannot be macros, and a chance that hits nothing."""
        wrong = [f"parameters: {said}" for said in custom_source.wrong_parameters(self.parameters)]
        return wrong + ([] if self.probability else ["probability: 0% hits nothing"])

    def beside(self, folder: str) -> ProbeCustom:
        """The source is looked for there."""
        return replace(self, source=os.path.normpath(os.path.join(folder, self.source)))

    @property
    def executes(self) -> str:
        """The source."""
        return self.source

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One edit, for the source as it is now."""
        found = custom_source.read(self.source)
        chance = self.probability.fraction
        rule = Rule(
            at.seed,
            chance,
            budget=self.budget,
            after=self.after,
            first=self.first,
            every=self.every,
            fault=at.index,
        )
        told = tuple(self.parameters.items())
        return [CustomProbe(at.run, at.index, members(target), found.path, found.sha256, told, rule)]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What chaosd knows of it, and what it cannot know."""
        share = [f"{self.probability} of them"] if self.probability < 100 else []
        share += [f"one in {self.every}"] if self.every > 1 else []
        share += [f"after the first {self.after}"] if self.after else []
        share += [f"of {self.first}"] if self.first else []
        share += [f"{self.budget} in all"] if self.budget else []
        told = f" ({', '.join(share)})" if share else ""
        hit = f"events of {target.spec} that {self.source} asks about are hit{told}"
        return [hit, "the probe is detached at the end; what it has done until then stays done"]
