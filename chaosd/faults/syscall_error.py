"""``syscall.error``: system calls of the target fail with any errno."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import FailingCalls


class SyscallError(FailingCalls, frozen=True, kw_only=True):
    """The chosen system calls return ``errno`` and, as far as the mechanism can, have done nothing."""

    name: ClassVar[str] = "syscall.error"

    syscalls: Annotated[list[str], Meta(description="calls, and groups such as files.write")]
    errno: Annotated[str, Meta(description="errno by name, such as EIO")]

    def words(self) -> Sequence[str]:
        """As they were named."""
        return self.syscalls
