"""``memory.pressure``: memory is held that the target, or the host, then does not have."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._load import PROCESS, load, memory_effect, memory_left, within
from chaosd.faults.base import Fault, Planning
from chaosd.kernel import memory
from chaosd.kernel.edit import Edit
from chaosd.kernel.load import Hold
from chaosd.targets.model import Target
from chaosd.units import Percent, Size

_Size = Annotated[Size | None, msgspec.Meta(description="how much is held")]
_Percent = Annotated[Percent | None, msgspec.Meta(description="of what is free when the run begins")]


class MemoryPressure(Fault, frozen=True, kw_only=True):
    """Memory is held, touched and locked: of the host, or in the target's cgroup, counted to its limit.

    What is free is what the limits of the target and the host's MemAvailable leave, less a twentieth of
    the host's memory (256 MiB at least), which is never taken.
    """

    name: ClassVar[str] = "memory.pressure"
    mechanisms: ClassVar = PROCESS

    size: _Size = None
    percent: _Percent = None

    def check(self) -> list[str]:
        """One of the two must be given."""
        if (self.size is None) == (self.percent is None):
            return ["give either size or percent, such as percent: 80%"]
        return [] if self.size or self.percent else ["a load of nothing presses nobody"]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One load."""
        return load(Hold(self._bytes(target), memory.floor()), at, [*within(target, ("memory",)).values()])

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How much is held of how much, and what happens when that is too much."""
        held, left = Size(self._bytes(target)), Size(memory_left(target))
        return [f"{held} of the {left} that {target.spec} could still get are held", *memory_effect(target)]

    def _bytes(self, target: Target) -> int:
        left = memory_left(target)
        wanted = int(self.size or left * (self.percent or Percent(0)).fraction)
        if not mmap.PAGESIZE <= wanted <= left:
            raise ChaosdError(
                f"{target.spec} has {Size(left)} free that may be held, not {Size(wanted)}",
                hint="ask for less, or lower its limit by memory.limit",
            )
        return wanted // mmap.PAGESIZE * mmap.PAGESIZE
