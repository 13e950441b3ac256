"""``process.exec_fail``: the target can start no program."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import NOT_OF_SOCKETS, FailingCalls
from chaosd.faults.base import Mechanism


class ProcessExecFail(FailingCalls, frozen=True, kw_only=True):
    """execve(2) fails: a child is made and cannot become the program it was made for."""

    name: ClassVar[str] = "process.exec_fail"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = NOT_OF_SOCKETS
    meant: ClassVar[tuple[str, ...]] = ("programs",)

    errno: Annotated[str, Meta(description="errno by name: EACCES, ENOENT, ENOMEM, ETXTBSY")] = "EACCES"
