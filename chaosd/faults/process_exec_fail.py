"""``process.exec_fail``: the target can start no program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import NOT_OF_SOCKETS, SyscallFault, errno_number, wrong_errno
from chaosd.faults.base import Mechanism


class ProcessExecFail(SyscallFault, frozen=True, kw_only=True):
    """execve(2) fails: a child is made and cannot become the program it was made for."""

    name: ClassVar[str] = "process.exec_fail"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = NOT_OF_SOCKETS

    errno: Annotated[str, Meta(description="errno by name: EACCES, ENOENT, ENOMEM, ETXTBSY")] = "EACCES"

    def words(self) -> Sequence[str]:
        """What starts a program."""
        return ("programs",)

    def number(self) -> int:
        """Of the errno."""
        return errno_number(self.errno)

    def check(self) -> list[str]:
        """An errno that there is."""
        return [*super().check(), *wrong_errno(self.errno, ())]
