"""Processes by identity: (pid, start time), because pids are used again."""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

import msgspec

from chaosd.kernel import pseudo
from chaosd.kernel.edit import Edit, Evidence, Undo

_PATIENCE = 2.0
_ENDED = "ZX"  # states in which it only waits to be collected
_sent: set[str] = set()


def read(pid: int, name: str) -> str:
    """A file of a process in /proc, such as ``stat``; what is no UTF-8 is replaced.

    Raises:
        OSError: there is no such process, or it may not be read.
    """
    return pseudo.read(f"/proc/{pid}/{name}")


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name, state first (proc(5) field 3).

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        return read(pid, "stat").rpartition(")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None


class ProcessRef(msgspec.Struct, frozen=True):
    """A process: ``start_time`` is field 22 of /proc/PID/stat, in clock ticks since boot."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> ProcessRef:
        """The process that has this pid now (``ProcessLookupError`` if there is none)."""
        return cls(pid, int(stat_fields(pid)[19]))

    def alive(self) -> bool:
        """Whether it is still running; a zombie is not."""
        try:
            fields = stat_fields(self.pid)
        except ProcessLookupError:
            return False
        return int(fields[19]) == self.start_time and fields[0] not in _ENDED

    def pidfd(self) -> int:
        """A pidfd of exactly this process.

        Raises:
            ProcessLookupError: it has ended, or the pid belongs to another process now.
        """
        fd = os.pidfd_open(self.pid)
        if not self.alive():
            os.close(fd)
            raise ProcessLookupError(f"process {self.pid} is another one now")
        return fd


def descendants(pid: int) -> list[int]:
    """The children of a process, their children and so on, parents first.

    Children are read from /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN; all distributions); a
    kernel without it has every process asked for its parent.
    """
    found: list[int] = []
    waiting = [pid]
    table = None if _lists_children() else _children_by_parent()
    while waiting:
        parent = waiting.pop(0)
        born = _children(parent) if table is None else table.get(parent, [])
        found += born
        waiting += born
    return found


@cache
def _lists_children() -> bool:
    return os.path.exists("/proc/thread-self/children")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, read(pid, f"task/{thread}/children").split())
    return found


def _children_by_parent() -> dict[int, list[int]]:
    table: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            table.setdefault(int(stat_fields(pid)[1]), []).append(pid)
        except ProcessLookupError:  # it has ended meanwhile
            continue
    return table


def family(roots: Iterable[ProcessRef]) -> list[ProcessRef]:
    """Processes with all their descendants as they are now, parents first, each once."""
    pids = dict.fromkeys(pid for root in roots if root.alive() for pid in (root.pid, *descendants(root.pid)))
    return [ref for pid in pids if (ref := _living(pid)) is not None]


def _living(pid: int) -> ProcessRef | None:
    with suppress(ProcessLookupError):
        fields = stat_fields(pid)
        return None if fields[0] in _ENDED else ProcessRef(pid, int(fields[19]))
    return None


def find(pid: int) -> ProcessRef | None:
    """The process that has this pid now, if there is one."""
    try:
        return ProcessRef.of(pid)
    except ProcessLookupError:
        return None


def send(process: ProcessRef, number: int) -> bool:
    """Send a signal to exactly this process, by pidfd; False when it has ended."""
    try:
        fd = process.pidfd()
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def signal_number(name: str) -> int:
    """The number of a signal called SIGTERM, TERM or term; 0 when there is none."""
    known = signal.Signals.__members__
    return int(known.get(name.upper()) or known.get(f"SIG{name.upper()}") or 0)


def stopped(process: ProcessRef) -> bool:
    """Whether it is stopped by a signal: state T, which a traced stop (t) is not."""
    try:
        return stat_fields(process.pid)[0] == "T" and process.alive()
    except ProcessLookupError:
        return False


def stopped_pids() -> list[int]:
    """Every process on this host that is stopped by a signal, for ``doctor``."""
    refs = (find(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [ref.pid for ref in refs if ref is not None and stopped(ref)]


class Kill(Edit, frozen=True, tag="process.kill"):
    """A signal sent to one process, after which nothing can be put back."""

    irreversible = True

    process: ProcessRef
    signal: int = signal.SIGKILL

    @property
    def slot(self) -> str:
        """The life of the process."""
        return f"process:{self.process.pid}.{self.process.start_time}:life"

    def describe(self) -> str:
        """The signal and the process."""
        return f"send {signal.Signals(self.signal).name} to process {self.process.pid}"

    def apply(self) -> None:
        """Send it; SIGKILL is waited for."""
        if not send(self.process, self.signal):
            return
        _sent.add(self.slot)
        deadline = time.monotonic() + (_PATIENCE if self.signal == signal.SIGKILL else 0)
        while self.process.alive() and time.monotonic() < deadline:
            time.sleep(0.001)

    def revert(self) -> Undo:
        """Nothing can."""
        return Undo.NEVER

    def present(self) -> bool:
        """Whether the signal was sent from here, or the process has ended."""
        return self.slot in _sent or not self.process.alive()

    def evidence(self) -> Evidence:
        """One when the signal was sent from this process."""
        return Evidence(1, int(self.slot in _sent), unit="processes")


def comm_of(pid: int) -> str:
    """What the kernel calls a process (proc_pid_comm(5)); empty when it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def threads(process: ProcessRef) -> int:
    """How many threads a process has; 0 when it has ended."""
    try:
        return int(stat_fields(process.pid)[17])
    except ProcessLookupError:
        return 0


def resident(process: ProcessRef) -> int:
    """Bytes of memory a process has resident; 0 when it has ended."""
    try:
        return int(stat_fields(process.pid)[21]) * mmap.PAGESIZE
    except ProcessLookupError:
        return 0
