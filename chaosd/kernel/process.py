"""Processes by identity: (pid, start time), because pids are used again."""

from __future__ import annotations

import os

import msgspec


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name, state first (proc(5) field 3).

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
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
        return int(fields[19]) == self.start_time and fields[0] not in "ZX"

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
