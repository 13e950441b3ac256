"""``syscall.delay``: system calls of the target take longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import LADDER, SyscallFault
from chaosd.faults.base import Mechanism, Planning
from chaosd.targets.model import Target
from chaosd.units import Duration


class SyscallDelay(SyscallFault, frozen=True, kw_only=True):
    """The chosen system calls are held up before they begin; other threads go on meanwhile."""

    name: ClassVar[str] = "syscall.delay"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = LADDER[-2:]

    syscalls: Annotated[list[str], Meta(description="calls, and groups such as files.write")]
    delay: Annotated[Duration, Meta(description="how much longer")]
    jitter: Annotated[Duration, Meta(description="how much the delay varies, evenly")] = Duration(0)

    def words(self) -> Sequence[str]:
        """As they were named."""
        return self.syscalls

    def number(self) -> int:
        """None of them fails."""
        return 0

    def check(self) -> list[str]:
        """A delay, and no jitter beyond it."""
        wrong = [] if self.delay else ["delay: 0 delays nothing"]
        wrong += ["jitter: more than the delay"] if self.jitter > self.delay else []
        return [*super().check(), *wrong]

    def times(self) -> tuple[float, float]:
        """As they were named."""
        return float(self.delay), float(self.jitter)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """By how much."""
        about = f" ± {self.jitter}" if self.jitter else ""
        first, *notes = super().effect(target, at)
        return [f"{first}: {self.delay}{about}", *notes]
