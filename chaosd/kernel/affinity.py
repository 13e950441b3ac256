"""CPU affinity that threads chose for themselves, kept over a change of their cpuset.

Kernels before 6.2 forget it when a cpuset is narrowed and widened again (user_cpus_ptr,
8f9ea86fdf99 "sched: Always preserve the user requested cpumask").
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from chaosd.kernel.edit import Edit, Undo
from chaosd.kernel.process import ProcessRef, family

_noted: set[str] = set()


class Affinity(Edit, frozen=True, tag="process.affinity"):
    """The CPUs of each thread (by its id) that had fewer than its cgroup allows; only a note."""

    process: ProcessRef
    threads: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def slot(self) -> str:
        """The affinity of the process."""
        return f"process:{self.process.pid}.{self.process.start_time}:affinity"

    def describe(self) -> str:
        """Whose affinity."""
        return f"note the CPU affinity of {len(self.threads)} threads of process {self.process.pid}"

    def apply(self) -> None:
        """Nothing: the value itself is the note."""
        _noted.add(self.slot)

    def revert(self) -> Undo:
        """Set the noted CPUs again where a thread has others now."""
        _noted.discard(self.slot)
        changed = self._changed()
        for tid, cpus in changed:
            os.sched_setaffinity(tid, cpus)
        return Undo.DONE if changed else Undo.GONE

    def present(self) -> bool:
        """Whether the note was taken here, or a thread has other CPUs than noted."""
        return self.slot in _noted or bool(self._changed())

    def surroundings(self) -> dict[str, str]:
        """The CPUs of each noted thread."""
        here = _threads(self.process.pid) if self.process.alive() else []
        return {f"CPUs of thread {tid}": str(_cpus(tid)) for tid, _ in self.threads if tid in here}

    def _changed(self) -> list[tuple[int, tuple[int, ...]]]:
        here = _threads(self.process.pid) if self.process.alive() else []
        return [(tid, cpus) for tid, cpus in self.threads if tid in here and _cpus(tid) not in ((), cpus)]


def kept(processes: Iterable[ProcessRef], allowed: AbstractSet[int]) -> Iterator[Affinity]:
    """The notes for every thread that has fewer CPUs than ``allowed``."""
    for process in family(processes):
        cpus = ((tid, _cpus(tid)) for tid in _threads(process.pid))
        threads = tuple((tid, chosen) for tid, chosen in cpus if chosen and set(chosen) < allowed)
        if threads:
            yield Affinity(process, threads)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        return []


def _cpus(tid: int) -> tuple[int, ...]:
    try:
        return tuple(sorted(os.sched_getaffinity(tid)))
    except ProcessLookupError:
        return ()
