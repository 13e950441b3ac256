"""CPU, memory, load, disk and pressure of this host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.checks.base import AbsolutePath, Check, Failed, PerSecond, Reading
from chaosd.checks.figures import BYTES, NUMBER, SHARE, Condition, Figure
from chaosd.errors import UnsupportedError

PRESSURE = "/proc/pressure"
"""Where the kernel tells of its stalls (Documentation/accounting/psi.rst)."""

_CPU = {
    "cpu.used": Figure(SHARE, "of all CPUs, not idle and not waiting for a disk, since the probe before"),
    "cpu.iowait": Figure(SHARE, "of all CPUs, idle while something waits for a disk"),
    "cpu.steal": Figure(SHARE, "of all CPUs, taken by the hypervisor"),
}
_LOAD = {
    f"load{minutes}": Figure(NUMBER, f"load average over {minutes} minute{'s' * (minutes > 1)}")
    for minutes in (1, 5, 15)
}
_MEMORY = {
    "memory.used": Figure(SHARE, "of all memory, not available"),
    "memory.available": Figure(SHARE, "of all memory, to be had without swapping (MemAvailable)"),
    "memory.available.bytes": Figure(BYTES, "the same as an amount"),
    "swap.used": Figure(SHARE, "of all swap; 0% where there is none"),
}
_DISK = {
    "disk.used": Figure(SHARE, "of the file system of `path`, as df(1) has it"),
    "disk.free": Figure(SHARE, "of that file system, open to everyone"),
    "disk.free.bytes": Figure(BYTES, "the same as an amount"),
}
_PSI = {
    f"psi.{resource}.{who}": Figure(
        SHARE, f"of the last 10 s, {'all' if who == 'full' else 'some'} tasks stalled on {what}"
    )
    for resource, what in (("cpu", "CPU"), ("memory", "memory"), ("io", "disks"))
    for who in ("some", "full")
    if (resource, who) != ("cpu", "full")  # of a whole host it is not defined and always 0
}


class Host(Check, frozen=True, kw_only=True, dict=True):
    """Figures of this host as a whole, and each condition of ``expect`` holds.

    Thresholds on them need no such check: one is added where a threshold asks for a figure of the host.
    Without ``expect`` it only measures, and does not count among the figures of all checks.
    """

    kind: ClassVar[str] = "host"
    gives: ClassVar[Mapping[str, Figure]] = _CPU | _LOAD | _MEMORY | _DISK | _PSI

    expect: Annotated[list[Condition], Meta(description="conditions on figures, all must hold")] = []
    path: Annotated[AbsolutePath, Meta(description="a place on the file system meant")] = AbsolutePath("/")
    rate: PerSecond = 2.0

    @property
    def judges(self) -> bool:
        """Whether it expects anything."""
        return bool(self.expect)

    def check(self) -> list[str]:
        """What is wrong with the conditions."""
        return [f"expect: {words}" for condition in self.expect if (words := condition.problem(self.gives))]

    def describe(self) -> str:
        """What must hold."""
        return f"this host has {', '.join(self.expect)}" if self.expect else "this host, measured only"

    def demand(self, *figures: str) -> None:
        """Make sure that figures can be measured: pressure needs a kernel that keeps account of it."""
        super().demand(*figures)
        for name in (*figures, *(condition.figure for condition in self.expect)):
            if not name.startswith("psi."):
                continue
            try:
                _pressure(name.split(".")[1])
            except OSError as error:
                raise UnsupportedError(
                    f"{name} cannot be measured here: {error.filename}: {error.strerror}",
                    hint="boot with psi=1 (CONFIG_PSI), or go by memory.available",
                ) from None

    def prepare(self) -> None:
        """From here on the use of CPUs is counted."""
        _ = self._clock

    def measure(self) -> Reading:
        """Read everything once."""
        figures = self._clock.shares() | _load() | _memory() | _disk(self.path) | _pressures()
        for condition in self.expect:
            if wrong := condition.wrong(self.gives, figures):
                raise Failed(wrong, figures=figures)
        cpu, memory, load = (figures[name] for name in ("cpu.used", "memory.used", "load1"))
        return Reading(f"cpu {cpu:.0%}, memory {memory:.0%}, load {load:.1f}", figures)

    @cached_property
    def _clock(self) -> _Clock:
        return _Clock()


class _Clock:
    """What the CPUs did between two readings of /proc/stat."""

    def __init__(self) -> None:
        self._before = _ticks()
        self._shares: dict[str, float] = dict.fromkeys(_CPU, 0.0)

    def shares(self) -> dict[str, float]:
        now = _ticks()
        spent = [max(after - before, 0) for after, before in zip(now, self._before, strict=True)]
        _, _, _, idle, iowait, _, _, steal = spent
        if whole := sum(spent):
            self._before = now
            parts = (1 - (idle + iowait) / whole, iowait / whole, steal / whole)
            self._shares = dict(zip(_CPU, parts, strict=True))
        return self._shares


def _ticks() -> list[int]:
    # "cpu" and user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)); iowait may go backwards.
    # The time of guests, which comes next, is in user and nice, too.
    with open("/proc/stat", encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1:9]]


def _load() -> dict[str, float]:
    return dict(zip(_LOAD, os.getloadavg(), strict=True))


def _memory() -> dict[str, float]:
    with open("/proc/meminfo", encoding="ascii") as file:
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in file)}
    available = kilobytes["MemAvailable"] / kilobytes["MemTotal"]
    swap = kilobytes["SwapTotal"]
    used = 1 - kilobytes["SwapFree"] / swap if swap else 0.0
    amount = kilobytes["MemAvailable"] * 1024.0
    return dict(zip(_MEMORY, (1 - available, available, amount, used), strict=True))


def _disk(path: str) -> dict[str, float]:
    # as df(1) counts: blocks that only root may use are not there
    found = os.statvfs(path)
    used = found.f_blocks - found.f_bfree
    whole = used + found.f_bavail
    share = used / whole if whole else 0.0
    return dict(zip(_DISK, (share, 1 - share, float(found.f_bavail * found.f_frsize)), strict=True))


def _pressures() -> dict[str, float]:
    found: dict[str, float] = {}
    for resource in ("cpu", "memory", "io"):
        try:
            found |= _pressure(resource)
        except OSError:  # no CONFIG_PSI, or psi=0
            return {}
    return found


def _pressure(resource: str) -> dict[str, float]:
    # "some avg10=0.12 avg60=0.05 avg300=0.01 total=1234", and a line of "full"
    with open(f"{PRESSURE}/{resource}", encoding="ascii") as file:
        lines = [line.split() for line in file]
    shares = {f"psi.{resource}.{line[0]}": float(line[1].removeprefix("avg10=")) / 100 for line in lines}
    return {name: share for name, share in shares.items() if name in _PSI}
