"""``disk.latency``: each read and write of a target's files takes longer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from chaosd.errors import ChaosdError
from chaosd.faults import _syscall
from chaosd.faults._disk import LADDER, disks, throttled, v1_note
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.faults.syscall_delay import SyscallDelay
from chaosd.kernel import blocks
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target
from chaosd.units import Duration

_BY_CALLS = ("notify", "ptrace")
_CALLS = {"reads": ["files.read"], "writes": ["files.write", "files.sync"]}
_KEYS = {"reads": ["riops"], "writes": ["wiops"]}
_QUEUE = "so few operations a second that each waits for its turn"


class DiskLatency(Fault, frozen=True, kw_only=True):
    """Each read, write and flush of files below a path takes longer by ``delay``."""

    name: ClassVar[str] = "disk.latency"
    mechanisms: ClassVar = (
        *_syscall.LADDER[-2:],
        *(Mechanism(rung.name, rung.needs, f"{rung.note}; {_QUEUE}") for rung in LADDER),
    )

    path: Annotated[str, Meta(description="files in this folder, or this file, as the target sees it")]
    delay: Annotated[Duration, Meta(description="how much longer, such as 20ms or 2.5s")]
    jitter: Annotated[Duration, Meta(description="how much the delay varies, evenly")] = Duration(0)
    of: Annotated[Literal["all", "reads", "writes"], Meta(description="which of them")] = "all"

    def check(self) -> list[str]:
        """As ``syscall.delay`` has it, which does it where calls can be held."""
        return self._held().check()

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The edits of ``syscall.delay``, or limits of operations per second."""
        if at.mechanism in _BY_CALLS:
            return self._held(at.mechanism).plan(target, at)
        if self.jitter:
            raise ChaosdError(f"{self.name} by {at.mechanism} takes no jitter", hint="leave jitter out")
        if self.delay > 1:
            said = f"{self.name} by {at.mechanism} cannot hold an operation for {self.delay}"
            raise ChaosdError(said, hint="1s at most, for the kernel lets at least one through each second")
        wanted = dict.fromkeys(_chosen(_KEYS, self.of), float(self._turns))
        return throttled(target, at, disks(target, self.path, ""), wanted)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How long what waits, and what does not."""
        if at.mechanism in _BY_CALLS:
            cached = "what the page cache answers is held as well; what is mapped into memory is not"
            return [*self._held(at.mechanism).effect(target, at), cached]
        where = ", ".join(map(blocks.node, disks(target, self.path, "")))
        share = "of reads and of writes each" if self.of == "all" else f"of {self.of}"
        turn = Duration(1 / self._turns)
        return [
            f"{target.spec} on {where}: {self._turns} operations a second at most, {share}",
            f"one at a time takes {turn} on average; of several at once the last waits longest",
            *v1_note(at),
        ]

    @property
    def _turns(self) -> int:
        return max(round(1 / self.delay), 1)

    def _held(self, mechanism: str = "") -> SyscallDelay:
        calls = _chosen(_CALLS, self.of)
        return SyscallDelay(
            syscalls=calls, delay=self.delay, jitter=self.jitter, path=self.path, mechanism=mechanism
        )


def _chosen(table: dict[str, list[str]], which: str) -> list[str]:
    return [word for name, words in table.items() if which in ("all", name) for word in words]
