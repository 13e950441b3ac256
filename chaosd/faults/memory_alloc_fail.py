"""``memory.alloc_fail``: the target is given no more memory."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import NOT_OF_SOCKETS, FailingCalls
from chaosd.faults.base import Mechanism


class MemoryAllocFail(FailingCalls, frozen=True, kw_only=True):
    """mmap(2), brk(2) and mremap(2) fail; what malloc(3) has at hand already it goes on giving out."""

    name: ClassVar[str] = "memory.alloc_fail"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = NOT_OF_SOCKETS
    meant: ClassVar[tuple[str, ...]] = ("memory",)

    errno: Annotated[str, Meta(description="errno by name")] = "ENOMEM"
