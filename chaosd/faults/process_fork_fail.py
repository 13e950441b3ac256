"""``process.fork_fail``: the target can start no process and no thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import NOT_OF_SOCKETS, SyscallFault, errno_number, wrong_errno
from chaosd.faults.base import Mechanism


class ProcessForkFail(SyscallFault, frozen=True, kw_only=True):
    """fork(2), clone(2) and their kin fail as at a limit of processes; those that run go on."""

    name: ClassVar[str] = "process.fork_fail"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = NOT_OF_SOCKETS

    errno: Annotated[str, Meta(description="errno by name: EAGAIN or ENOMEM")] = "EAGAIN"

    def words(self) -> Sequence[str]:
        """What makes a process or thread."""
        return ("processes",)

    def number(self) -> int:
        """Of the errno."""
        return errno_number(self.errno)

    def check(self) -> list[str]:
        """An errno that there is."""
        return [*super().check(), *wrong_errno(self.errno, ())]
