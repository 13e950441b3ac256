"""``pids.limit``: fork and clone answer EAGAIN in the target once it has so many tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import limits, own, value
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.cgroup import PIDS_V1, PIDS_V2
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import family, threads
from chaosd.targets.model import Target

_Tasks = Annotated[int, msgspec.Meta(ge=0)]
_Count = Annotated[_Tasks | None, msgspec.Meta(description="how many tasks it may have in all")]
_More = Annotated[_Tasks | None, msgspec.Meta(description="how many more tasks than it has now")]


class PidsLimit(Fault, frozen=True, kw_only=True):
    """A target can have no more processes and threads (tasks) than this; making one fails with EAGAIN."""

    name: ClassVar[str] = "pids.limit"
    mechanisms: ClassVar = (Mechanism("cgroup-v2", (PIDS_V2,)), Mechanism("cgroup-v1", (PIDS_V1,)))

    limit: _Count = None
    headroom: _More = None

    def check(self) -> list[str]:
        """One of the two must be given."""
        both = (self.limit is None) == (self.headroom is None)
        return ["give either limit or headroom, such as headroom: 0"] if both else []

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One value."""
        ref = own(target, at, "pids")
        tasks = int(value(ref, "pids.current") or sum(map(threads, family(target.processes))))
        limit = self.limit if self.limit is not None else tasks + (self.headroom or 0)
        had = value(ref, "pids.max")
        if had.isdigit() and int(had) <= limit:
            raise ChaosdError(f"{target.spec} is already limited to {had} tasks", hint="ask for fewer")
        return limits(target, at, "pids", {"pids.max": str(limit)}, {"TasksMax": str(limit)})

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What fails, and how."""
        many = f"{self.limit} tasks" if self.limit is not None else f"{self.headroom} more tasks than it has"
        return [f"{target.spec}: fork and thread creation fail with EAGAIN beyond {many}; running ones go on"]
