"""``fd.exhaust``: the target gets no more file descriptors."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._syscall import FailingCalls


class FdExhaust(FailingCalls, frozen=True, kw_only=True):
    """Opening files, making sockets and accepting connections fail as if all descriptors were in use."""

    name: ClassVar[str] = "fd.exhaust"
    meant: ClassVar[tuple[str, ...]] = ("files.open", "sockets.create", "sockets.accept")

    errno: Annotated[str, Meta(description="errno by name: EMFILE of the process, ENFILE of the system")] = (
        "EMFILE"
    )
