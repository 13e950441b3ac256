"""``fd.exhaust``: the target gets no more file descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.errors import ChaosdError
from chaosd.faults._syscall import LADDER, FailingCalls, SyscallFault
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.descriptors import limited
from chaosd.kernel.edit import Edit
from chaosd.kernel.process import family
from chaosd.targets.model import Target

_Count = Annotated[int, Meta(ge=0)]
_RLIMIT = Mechanism(
    "rlimit", note="with `spare` alone: the limit of each process it has now (RLIMIT_NOFILE) is lowered"
)


class FdExhaust(FailingCalls, frozen=True, kw_only=True):
    """Opening files, making sockets and accepting connections fail as if all descriptors were in use.

    With `spare` they really are: each process can have so many more than it has, and whatever makes a
    descriptor fails with EMFILE beyond that, `dup` and `pipe` included.
    """

    name: ClassVar[str] = "fd.exhaust"
    mechanisms: ClassVar[tuple[Mechanism, ...]] = (*LADDER, _RLIMIT)
    meant: ClassVar[tuple[str, ...]] = ("files.open", "sockets.create", "sockets.accept")

    errno: Annotated[str, Meta(description="errno by name: EMFILE of the process, ENFILE of the system")] = (
        "EMFILE"
    )
    spare: Annotated[
        _Count | None, Meta(description="lower the real limit: so many more than each process has")
    ] = None

    @property
    def _real(self) -> bool:
        return self.spare is not None or self.mechanism == _RLIMIT.name

    def check(self) -> list[str]:
        """A limit knows no chance, no turns and no files."""
        if not self._real:
            return super().check()
        if self.mechanism not in ("", _RLIMIT.name):
            return [f"spare: by {_RLIMIT.name} alone, not by {self.mechanism}"]
        others = (*SyscallFault.__annotations__, "errno")
        given = [
            name
            for name in others
            if name in self.__struct_fields__ and getattr(self, name) != _default(name)
        ]
        return [f"{name}: goes not with spare, for a limit takes all alike" for name in given]

    def choose(self) -> Mechanism:
        """The limit where it is asked for."""
        return _RLIMIT if self._real else super().choose()

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A limit for each process, or what makes the calls fail."""
        if not self._real:
            return super().plan(target, at)
        if target.spec == "host":
            raise ChaosdError("spare is for processes, not for the whole host", hint="leave spare out")
        return [limited(process, self.spare or 0) for process in family(target.require_processes())]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How many are left, and who is not met."""
        if not self._real:
            return super().effect(target, at)
        left = f"{self.spare or 'no'} more descriptors than it has when the run begins"
        return [
            f"each process of {target.spec}, and what it forks, gets {left}; then EMFILE",
            "a process that joins the target from elsewhere keeps its own limit",
        ]


def _default(name: str) -> object:
    return getattr(FdExhaust(), name)
