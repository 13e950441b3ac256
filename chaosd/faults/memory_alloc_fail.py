"""``memory.alloc_fail``: the target is given no more memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import NOT_OF_SOCKETS, SyscallFault, errno_number, wrong_errno
from chaosd.faults.base import Mechanism


class MemoryAllocFail(SyscallFault, frozen=True, kw_only=True):
    """mmap(2), brk(2) and mremap(2) fail; what malloc(3) has at hand already it goes on giving out."""

    name: ClassVar[str] = "memory.alloc_fail"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = NOT_OF_SOCKETS

    errno: Annotated[str, Meta(description="errno by name")] = "ENOMEM"

    def words(self) -> Sequence[str]:
        """What maps memory, files included."""
        return ("memory",)

    def number(self) -> int:
        """Of the errno."""
        return errno_number(self.errno)

    def check(self) -> list[str]:
        """An errno that there is."""
        return [*super().check(), *wrong_errno(self.errno, ())]
