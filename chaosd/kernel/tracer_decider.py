"""What becomes of a wanted system call: the decision that a tracer and a supervisor share.

Part of their processes: needs the standard library alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from mmap import PAGESIZE, mmap
from typing import Any

from chaosd.kernel.tracer_filter import Call, Filter, memory
from chaosd.kernel.tracer_rule import Rule, tell

_TELL, _WITHIN = 50, 50_000_000  # hits that are told of in so many ns; each takes as long as a call
_IN_SOCKETCALL = 0x10000  # arguments.numbered

Calls = dict[int, Call]


class Decider:
    """One fault: which calls of held threads it hits, and what they get.

    Args:
        settings: as ``decision.settings`` makes them, with the descriptors of the shared page, of
            the page with the lease, and of the pipe for hits.
        group: gives the process of a thread; asked only where that matters.
        still: whether the thread that is looked at is still held there, asked after its memory was read.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        group: Callable[[int], int],
        still: Callable[[], bool] = lambda: True,
    ) -> None:
        self._error, self._delay, self._jitter = settings["error"], settings["delay"], settings["jitter"]
        self.rule = Rule(
            settings["rule"], mmap(settings["page"], PAGESIZE), mmap(settings["lease"], PAGESIZE)
        )
        self._filter = Filter(settings["path"], settings["sockets"])
        self._filters = bool(settings["path"] or settings["sockets"])
        self._hits: int = settings["hits"]
        self._group, self._still = group, still
        self._since = self._told = 0
        self.calls: dict[int, Calls] = {
            int(arch): {
                int(number): Call(name, bool(place), settings["takes"][name])
                for number, name in calls.items()
            }
            for place, (arch, calls) in enumerate(settings["calls"].items())
        }
        """The wanted calls by AUDIT_ARCH and number."""

    def decide(self, tid: int, calls: Calls, number: int, raw: Sequence[int]) -> tuple[int, int] | None:
        """The errno (or 0) and the delay in ns of a call that is hit; None for any other.

        Args:
            tid: of the thread, which is held at the entry of the call.
            calls: those of its architecture, ``number`` among them.
            number: of the call.
            raw: its six arguments.
        """
        call: Call | None = calls[number]
        arguments = raw
        if call and call.name == "socketcall":
            call = calls.get(_IN_SOCKETCALL + raw[0])
            arguments = memoryview(memory(tid, raw[1], 24).ljust(24, b"\0")).cast("I").tolist()
        if call is None:
            return None
        pid = 0
        if self._filters:
            pid = self._group(tid)
            if not self._filter.meets(tid, pid, call, list(arguments)) or not self._still():
                return None
        drawn = self.rule.strikes()
        if drawn is None:
            return None
        pid = pid or self._group(tid)
        self.rule.credit(pid)
        delay: int = self._delay - self._jitter + (2 * self._jitter * (drawn & 0xFFFFFFFF) >> 32)
        delay = round(delay * self.rule.strength())
        self._tell(tid, pid, call, list(arguments), delay)
        return self._error, delay

    def _tell(self, tid: int, pid: int, call: Call, arguments: list[int], delay: int) -> None:
        now = time.monotonic_ns()
        if now - self._since > _WITHIN:
            self._since, self._told = now, 0
        self._told += 1
        if self._told <= _TELL:
            detail = self._filter.detail(tid, pid, call, arguments)
            tell(self._hits, pid, call.name, (self._error, delay), detail)
