"""How many file descriptors a process may have: its RLIMIT_NOFILE, lowered from outside and put back."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator

from chaosd.errors import ChaosdError, ForeignStateError, TargetLostError
from chaosd.kernel.cgroup import of_process
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.process import ProcessRef, descendants, find

_full: set[str] = set()  # the limits that left a process without a descriptor at some time
_USUAL = 256  # limits that somebody has chosen are multiples of it


class DescriptorLimit(Edit, frozen=True, tag="process.nofile"):
    """The soft limit of one process, set to ``after`` by prlimit(2); ``before`` is what it was.

    The limit is on the *number* of a new descriptor, so that below ``after`` only the numbers that
    are free can be had. Children inherit it; at the end it is put back in every one that was made
    meanwhile, also by a child that has ended: what began after ``since`` (clock ticks since boot), is
    in the same ``cgroups`` and has exactly these limits got them from here. Not so where the limit is
    a number that others are given as well, such as 1024: then only descendants are looked at.
    """

    process: ProcessRef
    before: int
    after: int
    hard: int
    since: int
    cgroups: tuple[str, ...]

    @property
    def slot(self) -> str:
        """The limit of the process."""
        return f"process:{self.process.pid}.{self.process.start_time}:nofile"

    def describe(self) -> str:
        """Whose limit, and both values."""
        return f"limit the descriptors of process {self.process.pid}: {self.before} -> {self.after}"

    def apply(self) -> None:
        """Lower it, if it is what it was when this was planned."""
        now = limits(self.process)
        if now is None:
            raise TargetLostError(f"process {self.process.pid} has ended")
        if now != (self.before, self.hard):
            raise ForeignStateError(f"process {self.process.pid} has changed its limit", hint="plan again")
        _full.discard(self.slot)
        _set(self.process, (self.after, self.hard))

    def revert(self) -> Undo:
        """Put it back, here and in the children; a limit that has been changed since is left alone."""
        heirs = [process for process in self._heirs() if limits(process) == (self.after, self.hard)]
        for process in heirs:
            _set(process, (self.before, self.hard))
        now = limits(self.process)
        if now is None or now == (self.before, self.hard):
            return Undo.DONE if heirs else Undo.GONE
        return Undo.FOREIGN

    def present(self) -> bool:
        """Whether the process has our limit."""
        return limits(self.process) == (self.after, self.hard)

    def lost(self) -> str:
        """It has another limit now; that it has ended is the target's affair."""
        now = limits(self.process)
        changed = now is not None and now != (self.after, self.hard)
        return f"the limit of process {self.process.pid} was changed by somebody else" if changed else ""

    def evidence(self) -> Evidence:
        """One if at some time it was seen with no descriptor left."""
        if _free(self.process.pid, self.after) == 0:
            _full.add(self.slot)
        out = int(self.slot in _full)
        return Evidence(1, out, {} if out else {"has some left": 1}, unit="processes")

    def surroundings(self) -> dict[str, str]:
        """The limits of the process."""
        now = limits(self.process)
        return {f"descriptors of process {self.process.pid}": str(now)} if now else {}

    def _heirs(self) -> Iterator[ProcessRef]:
        yield self.process
        later = [process for process in _all() if process.start_time >= self.since]
        children = {*descendants(self.process.pid)} if self.process.alive() else set()
        places = (self.cgroups, cgroups_of(self.process.pid))  # another fault may have moved them together
        for process in later:
            orphan = self.after % _USUAL and cgroups_of(process.pid) in places
            if process.pid in children or orphan:
                yield process


def _all() -> list[ProcessRef]:
    found = (find(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def limited(process: ProcessRef, spare: int) -> DescriptorLimit:
    """The edit that leaves a process ``spare`` descriptors more than it has now.

    Raises:
        ChaosdError: its limit is as low already, or it has ended.
    """
    now, after = limits(process), _limit_for(process.pid, spare)
    if now is None:
        raise ChaosdError(f"process {process.pid} has ended", hint="try again")
    if after >= now[0] >= 0:
        raise ChaosdError(f"process {process.pid} has no more than that already: its limit is {now[0]}")
    since = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    return DescriptorLimit(process, now[0], after, now[1], since, cgroups_of(process.pid))


def cgroups_of(pid: int) -> tuple[str, ...]:
    """The cgroups that a process is in; empty when it has ended."""
    try:
        return tuple(sorted({*of_process(pid).values()}))
    except ProcessLookupError:
        return ()


def limits(process: ProcessRef) -> tuple[int, int] | None:
    """Its soft and its hard limit; None when it has ended."""
    # not by prlimit(2), which tells one user's limits to another only with CAP_SYS_RESOURCE
    try:
        with open(f"/proc/{process.pid}/limits", encoding="ascii") as file:
            line = next((line for line in file if line.startswith("Max open files ")), "")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not line or not process.alive():
        return None
    soft, hard = (-1 if word == "unlimited" else int(word) for word in line.split()[3:5])
    return soft, hard


def _set(process: ProcessRef, values: tuple[int, int]) -> None:
    try:
        fd = process.pidfd()
    except ProcessLookupError:
        return
    try:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, values)
    except ProcessLookupError:
        pass  # it has ended meanwhile
    except PermissionError as error:
        raise ChaosdError(f"the limits of process {process.pid} are closed to us: {error.strerror}") from None
    finally:
        os.close(fd)


def _used(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # it has ended
        return []


def _free(pid: int, limit: int) -> int:
    used = _used(pid)
    return limit - sum(number < limit for number in used) if used else -1


def _limit_for(pid: int, spare: int) -> int:
    used, limit = {*_used(pid)}, 0
    while limit in used or spare:
        spare -= limit not in used
        limit += 1
    return limit
