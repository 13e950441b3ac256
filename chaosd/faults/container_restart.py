"""``container.restart``: the engine stops a container and starts it again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._container import first, recovery
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.edit import Edit
from chaosd.kernel.restart import Again
from chaosd.targets.model import Target
from chaosd.units import Duration

_Grace = Annotated[Duration, msgspec.Meta(description="for how long it may take to end before it is killed")]


class ContainerRestart(Fault, frozen=True, kw_only=True):
    """A container is asked to end and started again, as in a deployment. This cannot be undone."""

    name: ClassVar[str] = "container.restart"
    mechanisms: ClassVar = (Mechanism("engine"),)
    irreversible: ClassVar[bool] = True
    ends_target: ClassVar[bool] = True

    grace: _Grace = Duration(10)

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The recovery step first: whatever becomes of the engine's restart, it is up at the end."""
        if self.grace >= at.duration:
            said = f"{target.spec} may take {self.grace} to end, and the fault lasts {at.duration:g}s"
            raise ChaosdError(said, hint="a longer duration, or a smaller grace")
        process = first(target, self.name)
        return [*recovery(target), Again(target.manager, process, float(self.grace))]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What cannot be undone, and how it comes back."""
        ends = f"{target.spec} is asked to end, and killed after {self.grace}; this cannot be undone"
        return [ends, "the engine starts it again at once, with another first process"]
