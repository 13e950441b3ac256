"""``memory.leak``: memory is taken bit by bit and not given back before the end."""

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
from chaosd.units import Duration, Size

_Step = Annotated[Size, msgspec.Meta(description="how much is lost at a time")]
_Every = Annotated[Duration, msgspec.Meta(description="how often")]
_Until = Annotated[Size | None, msgspec.Meta(description="how much in all; most of what is free if left out")]
_MOST = 0.95


class MemoryLeak(Fault, frozen=True, kw_only=True):
    """Something in the target's cgroup, or on the host, takes more and more memory.

    It is held, touched and locked by a process of chaosd's own, and counted to the target's limit.
    """

    name: ClassVar[str] = "memory.leak"
    mechanisms: ClassVar = PROCESS

    step: _Step = Size(10 << 20)
    every: _Every = Duration(1.0)
    until: _Until = None

    def check(self) -> list[str]:
        """A page at least, and not more often than is looked at."""
        small = [f"step {self.step} is under a page of {Size(mmap.PAGESIZE)}"]
        fast = [f"every {self.every} is under 50ms: make the step larger"]
        return small * (self.step < mmap.PAGESIZE) + fast * (self.every < 0.05)

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One load that grows."""
        work = Hold(self._most(target), memory.floor(), int(self.step), float(self.every))
        return load(work, at, [*within(target, ("memory",)).values()])

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How far it gets within the run."""
        most = self._most(target)
        reached = Size(min(self.step * (1 + int(at.duration / self.every)), most))
        grows = f"{self.step} every {self.every}, {reached} by the end"
        left = Size(memory_left(target))
        return [f"{target.spec} loses {grows}, of {left} that it could still get", *memory_effect(target)]

    def _most(self, target: Target) -> int:
        left = memory_left(target)
        most = int(self.until or left * _MOST)
        if not self.step <= most <= left:
            raise ChaosdError(
                f"{target.spec} has {Size(left)} free that may be taken, not {Size(max(most, self.step))}",
                hint="ask for less",
            )
        return most
