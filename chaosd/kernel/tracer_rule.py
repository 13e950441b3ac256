"""Which of the matched calls get the fault, as probes/include/number.h decides it; the counts of both.

Part of the tracer's process: needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import struct
from mmap import PAGESIZE, mmap
from time import CLOCK_BOOTTIME, clock_gettime, clock_gettime_ns

SKIPPED = ("probability", "turn", "budget", "lease", "strength")
"""Why a matched call got nothing."""

COUNTERS = ("matched", "injected", *SKIPPED)
"""The names of the unsigned 64-bit numbers at the beginning of the shared page, in order."""

MATCHED, INJECTED, BY_PROBABILITY, BY_TURN, BY_BUDGET, BY_LEASE, BY_STRENGTH = range(len(COUNTERS))

PROCESSES = (PAGESIZE - 8 * len(COUNTERS)) // 16
"""How many processes the page has room for, as pairs of a pid and its hits behind the counters."""

FAULTS = 64
"""Of one run, as in probes/include/outcome.h."""

_ALL = (1 << 64) - 1
_pair = struct.Struct("=QQ")


def mix(x: int) -> int:
    """splitmix64, as probes/include/mix.h."""
    x = (x + 0x9E3779B97F4A7C15) & _ALL
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _ALL
    return x ^ (x >> 31)


class Rule:
    """Decides each call by its number alone.

    Args:
        rule: seed, budget, worsen (0 to 2^32), after, first, every and fault, as in struct rule.
        page: where the counters go.
        lease: struct lease of probes/include/outcome.h.
    """

    def __init__(self, rule: dict[str, int], page: mmap, lease: mmap) -> None:
        self._seed, self._budget, self._worsen = rule["seed"], rule["budget"], rule["worsen"]
        self._after, self._first, self._every = rule["after"], rule["first"], rule["every"]
        self._spared, self._weakened = 1 + rule["fault"], 1 + FAULTS + rule["fault"]
        self._page = page
        self._counts = memoryview(page).cast("Q")
        self._lease = memoryview(lease).cast("Q")
        self._number = self._spent = 0
        self._slots: dict[int, int] = {}

    def leased(self) -> bool:
        """Whether the engine has given a sign of life."""
        return clock_gettime_ns(CLOCK_BOOTTIME) < self._lease[0]

    def strength(self) -> float:
        """How strong the fault is now, from 0 to 1, where it has a strength besides its chance."""
        return 1 - self._lease[self._weakened] / (1 << 32)

    def strikes(self) -> int | None:
        """The draw of a matched call if it gets the fault, otherwise None; counts both."""
        outcome, drawn = BY_LEASE, 0
        if self.leased():
            drawn = mix(self._seed ^ mix(self._number))
            outcome = self._outcome(drawn)
            self._number += 1
        self._counts[MATCHED] += 1
        self._counts[outcome] += 1
        return drawn if outcome == INJECTED else None

    def credit(self, tgid: int) -> None:
        """Count a hit for the process that it was of."""
        slot = self._slots.setdefault(tgid, len(self._slots))
        if slot < PROCESSES:
            at = len(COUNTERS) + 2 * slot
            self._counts[at] = tgid
            self._counts[at + 1] += 1

    def _outcome(self, drawn: int) -> int:
        at = self._number - self._after
        if at < 0 or (self._first and at >= self._first) or (self._every > 1 and at % self._every):
            return BY_TURN
        if drawn >> 32 >= self._worsen:
            return BY_PROBABILITY
        if mix(drawn) >> 32 < self._lease[self._spared]:
            return BY_STRENGTH
        self._spent += 1
        return BY_BUDGET if 0 < self._budget < self._spent else INJECTED


def tell(pipe: int, pid: int, call: str, what: tuple[int, int], detail: str) -> None:
    """Write of a hit into a pipe, if there is room: the errno and the delay in ns, and to what."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            comm = file.read().rstrip("\n")
        error, delay = what
        line = json.dumps((clock_gettime(CLOCK_BOOTTIME), pid, comm, call, error, delay / 1e9, detail[:500]))
        os.write(pipe, line.encode() + b"\n")  # below PIPE_BUF: it is written whole, or not at all
    except OSError:
        pass  # no room, or the process has just been killed


def read(page: mmap) -> tuple[dict[str, int], dict[int, int]]:
    """The counters of a page by name, and the hits of each process."""
    counts = dict(zip(COUNTERS, struct.unpack_from(f"={len(COUNTERS)}Q", page), strict=True))
    pairs = _pair.iter_unpack(page[8 * len(COUNTERS) :][: 16 * PROCESSES])
    return counts, {pid: hits for pid, hits in pairs if hits}
