"""Whether processes are there, and what they use."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.checks.base import Check, Failed, Reading, now
from chaosd.checks.figures import BYTES, NUMBER, Condition, Figure
from chaosd.errors import ChaosdError
from chaosd.kernel.process import ProcessRef, stat_fields
from chaosd.targets.model import Target
from chaosd.targets.resolve import resolve, resolve_all

_KINDS = ("pid", "comm", "unit", "cgroup", "container")
_TICKS = os.sysconf("SC_CLK_TCK")


class Process(Check, frozen=True, kw_only=True, dict=True):
    """Something that ``of`` names is running, and each condition of ``expect`` holds.

    Names are looked up at each probe, so that a service which was started again counts as there; a
    pid is the process that it was when the run began, with its children.
    """

    kind: ClassVar[str] = "process"
    gives: ClassVar[Mapping[str, Figure]] = {
        "processes": Figure(NUMBER, "how many there are"),
        "threads": Figure(NUMBER, "how many they have"),
        "rss": Figure(BYTES, "resident memory, added up: what they share counts for each"),
        "cpus": Figure(NUMBER, "CPUs in use since the probe before; 1 is one CPU without a break"),
    }

    of: Annotated[str, Meta(description="as targets are named: pid:, comm:, unit:, cgroup: or container:")]
    expect: Annotated[list[Condition], Meta(description="conditions on figures, all must hold")] = []

    def check(self) -> list[str]:
        """What is wrong with the name and the conditions."""
        kind, _, name = self.of.partition(":")
        wrong = super().check()
        wrong += [f"expect: {words}" for condition in self.expect if (words := condition.problem(self.gives))]
        if kind not in _KINDS or not name or "\0" in name:
            wrong.append(f"of: {self.of!r} names no processes (such as comm:nginx or unit:nginx.service)")
        return wrong

    def describe(self) -> str:
        """What must hold."""
        return f"{self.of} is running{''.join(f', {condition}' for condition in self.expect)}"

    def prepare(self) -> None:
        """Note which process a pid stands for."""
        _ = self._first

    def measure(self) -> Reading:
        """Look once."""
        try:
            processes = self._look()
        except ChaosdError as error:
            raise Failed(error.message) from None
        figures = self._usage.of(processes)
        if not figures["processes"]:
            raise Failed(f"{self.of} has no processes", figures=figures)
        for condition in self.expect:
            if wrong := condition.wrong(self.gives, figures):
                raise Failed(wrong, figures=figures)
        return Reading(f"{figures['processes']:g} running", figures)

    def _look(self) -> list[ProcessRef]:
        if self._first is not None:
            self._first.check_alive()
        return [process for target in resolve_all(self.of) for process in target.processes]

    @cached_property
    def _first(self) -> Target | None:
        try:
            return resolve(self.of) if self.of.startswith("pid:") else None
        except ChaosdError:
            return None  # the first probe says so, too

    @cached_property
    def _usage(self) -> _Usage:
        return _Usage()


class _Usage:
    """What processes use, and how much of the CPUs since it was last asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = now()
        self._spent: dict[ProcessRef, float] = {}

    def of(self, processes: Sequence[ProcessRef]) -> dict[str, float]:
        """The figures of some processes; those that end meanwhile are left out."""
        fields = {ref: found for ref in processes if (found := _fields(ref))}
        spent = {ref: (int(found[11]) + int(found[12])) / _TICKS for ref, found in fields.items()}
        with self._lock:
            at, before = now(), self._spent
            used = sum(max(spent[ref] - before[ref], 0.0) for ref in spent.keys() & before.keys())
            cpus = used / max(at - self._at, 1 / _TICKS)
            self._at, self._spent = at, spent
        return {
            "processes": float(len(fields)),
            "threads": float(sum(int(found[17]) for found in fields.values())),
            "rss": float(sum(int(found[21]) for found in fields.values()) * mmap.PAGESIZE),
            "cpus": cpus,
        }


def _fields(ref: ProcessRef) -> list[str] | None:
    # proc(5): utime and stime are fields 14 and 15, num_threads 20, rss 24
    try:
        fields = stat_fields(ref.pid)
    except ProcessLookupError:
        return None
    return fields if int(fields[19]) == ref.start_time and fields[0] not in "ZX" else None
