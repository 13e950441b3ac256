"""``process.fork_fail``: the target can start no process and no thread."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import NOT_OF_SOCKETS, FailingCalls
from chaosd.faults.base import Mechanism


class ProcessForkFail(FailingCalls, frozen=True, kw_only=True):
    """fork(2), clone(2) and their kin fail as at a limit of processes; those that run go on."""

    name: ClassVar[str] = "process.fork_fail"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = NOT_OF_SOCKETS
    meant: ClassVar[tuple[str, ...]] = ("processes",)

    errno: Annotated[str, Meta(description="errno by name: EAGAIN or ENOMEM")] = "EAGAIN"
