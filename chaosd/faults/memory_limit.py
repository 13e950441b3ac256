"""``memory.limit``: a target gets no more memory than this; above it, it is slowed, or killed if ``hard``."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import limits, memory_used, own, value
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.cgroup import MEMORY_V1, MEMORY_V2
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target
from chaosd.units import Percent, Size

_Percent = Annotated[Percent | None, msgspec.Meta(description="of what the target uses now")]
_Hard = Annotated[bool, msgspec.Meta(description="let the OOM killer act above the limit")]


class MemoryLimit(Fault, frozen=True, kw_only=True):
    """A target gets ``size`` of memory, or ``percent`` of what it uses now, and not more."""

    name: ClassVar[str] = "memory.limit"
    mechanisms: ClassVar = (Mechanism("cgroup-v2", (MEMORY_V2,)), Mechanism("cgroup-v1", (MEMORY_V1,)))

    size: Annotated[Size | None, msgspec.Meta(description="how much memory is left")] = None
    percent: _Percent = None
    hard: _Hard = False

    def check(self) -> list[str]:
        """One of the two must be given, and it must leave a page."""
        if (self.size is None) == (self.percent is None):
            return ["give either size or percent, such as percent: 80%"]
        return [] if self.size or self.percent else ["a limit of 0 is no limit: use process.pause"]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """memory.high, or memory.max if hard; v1 has neither, so there the OOM killer is held off."""
        files = {"cgroup-v2": "memory.max" if self.hard else "memory.high"}
        file = files.get(at.mechanism, "memory.limit_in_bytes")
        limit, had = self._bytes(target, at), value(own(target, at, "memory"), file)
        if had.isdigit() and int(had) <= limit:
            raise ChaosdError(f"{target.spec} is already limited to {Size(int(had))}", hint="ask for less")
        settings = {file: str(limit)}
        if at.mechanism == "cgroup-v1" and not self.hard:
            settings = {"memory.oom_control": "1"} | settings
        unit = "MemoryMax" if self.hard else "MemoryHigh"
        used = str(max(memory_used(target, at), limit))
        return limits(target, at, "memory", settings, {unit: str(limit)}, {file: used, unit: used})

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What happens above the limit, and what counts."""
        slow = "is slowed and reclaimed" if at.mechanism == "cgroup-v2" else "waits until the end of the run"
        what = [f"{target.spec} above the limit {'is killed by the OOM killer' if self.hard else slow}"]
        shared = "what it holds already stays with its old cgroup: the limit is for what it takes from now on"
        return what if own(target, at, "memory") else [*what, shared]

    def _bytes(self, target: Target, at: Planning) -> int:
        share = memory_used(target, at) * (self.percent or Percent(0)).fraction
        return max(int(self.size or share) // mmap.PAGESIZE, 1) * mmap.PAGESIZE
