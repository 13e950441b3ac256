"""``fd.exhaust``: the target gets no more file descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import SyscallFault, errno_number, wrong_errno


class FdExhaust(SyscallFault, frozen=True, kw_only=True):
    """Opening files, making sockets and accepting connections fail as when all descriptors are in use."""

    name: ClassVar[str] = "fd.exhaust"

    errno: Annotated[str, Meta(description="errno by name: EMFILE of the process, ENFILE of the system")] = (
        "EMFILE"
    )

    def words(self) -> Sequence[str]:
        """What gives out descriptors; dup(2) and pipe(2) are spared."""
        return ("files.open", "sockets.create", "sockets.accept")

    def number(self) -> int:
        """Of the errno."""
        return errno_number(self.errno)

    def check(self) -> list[str]:
        """An errno that there is."""
        return [*super().check(), *wrong_errno(self.errno, ())]
