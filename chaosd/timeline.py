"""Which faults of a run are in force at a moment, and how strong each is.

The engine says what time it is; here each fault is begun, made stronger or weaker, and ended. Every
change of the kernel goes through the two functions of the engine that promise and undo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from chaosd.kernel.edit import Edit, Evidence
from chaosd.plan import Plan, PlannedFault, add_up

AHEAD = 3.0
"""Seconds before its start that a later fault's helpers are started."""
_HITS = 20


class _Course:
    """One fault on its way through the run."""

    def __init__(self, planned: PlannedFault) -> None:
        self.planned = planned
        self.begun = self.seen = False  # its edits are applied; they have been, at some time
        self.level = 0.0
        self.told: tuple[float, float] | None = None  # strength and share that its edits were last set to
        self.over: list[Evidence] = []  # counted by edits that are gone
        self.in_place = any(edit.control for edit in planned.edits)

    def evidence(self) -> Evidence | None:
        parts = [found for edit in self.planned.edits if (found := edit.evidence())]
        return add_up(self.over + parts) if self.over or parts else None


class Timeline:
    """All faults of a plan.

    Args:
        plan: what is to happen.
        apply: promises and applies an edit.
        revert: puts some edits back, the last one first.
    """

    def __init__(
        self, plan: Plan, apply: Callable[[Edit], None], revert: Callable[[Sequence[Edit]], None]
    ) -> None:
        self._courses = [_Course(planned) for planned in plan.faults]
        self._apply, self._revert = apply, revert
        self._told: list[dict[str, Any]] = []

    @property
    def live(self) -> list[PlannedFault]:
        """The faults in force."""
        return [course.planned for course in self._courses if course.begun]

    def prepare(self, at: float) -> bool:
        """Start what faults need that begin within ``AHEAD``; whether those that are due are ready."""
        soon = [course for course in self._courses if self._is_soon(course, at)]
        for course in soon:
            for edit in course.planned.edits:
                edit.prepare()
        return all(self._is_ready(course) for course in soon if course.planned.start <= at)

    def _is_soon(self, course: _Course, at: float) -> bool:
        planned = course.planned
        return not course.begun and planned.start - AHEAD <= at < planned.end

    def _is_ready(self, course: _Course) -> bool:
        return all([edit.ready() for edit in course.planned.edits])  # noqa: C419 - each is to be asked

    def move(self, at: float, share: float) -> None:
        """Bring every fault to where it is to be.

        Args:
            at: seconds since the run's faults began.
            share: of the events that may be hit, 0 to 1.

        Raises:
            ChaosdError: one could not be applied, or not be put back.
        """
        for course in reversed(self._courses):
            if course.begun and course.planned.level(at) is None:
                self._end(course)
        self.prepare(at)
        for course in self._courses:
            level = course.planned.level(at)
            if level is not None:
                self._set(course, level, share)

    def _set(self, course: _Course, level: float, share: float) -> None:
        course.level = level * share
        if not course.begun:
            if level and self._is_ready(course):
                self._begin(course, level, share)
        elif course.in_place:
            self._tell(course, level, share)
        elif not level:
            self._end(course)

    def _tell(self, course: _Course, level: float, share: float) -> None:
        # Only a change, for what is set anew begins anew: a CPU's quota is full again after every
        # write to it (kernel/sched/core.c, tg_set_cfs_bandwidth), and a token bucket after a change.
        if course.told != (level, share):
            _scale(course, level, share)
            course.told = level, share

    def _begin(self, course: _Course, level: float, share: float) -> None:
        _scale(course, level, share)
        held = {edit for planned in self.live for edit in planned.edits}
        course.begun = course.seen = True
        for edit in course.planned.edits:
            if edit not in held:
                self._apply(edit)

    def _end(self, course: _Course) -> None:
        course.over += [found for edit in course.planned.edits if (found := edit.evidence())]
        self._told += _hits(course.planned)
        course.begun, course.level, course.told = False, 0.0, None
        held = {edit for planned in self.live for edit in planned.edits}
        self._revert([edit for edit in course.planned.edits if edit not in held])

    def check_targets(self) -> None:
        """Raise ``TargetLostError`` where one is gone that was not killed on purpose."""
        for planned in self.live:
            if not planned.fault.irreversible:
                planned.target.check_alive()

    def levels(self) -> list[float]:
        """How strong each fault is now, from 0 to 1."""
        return [round(course.level, 3) if course.begun else 0.0 for course in self._courses]

    def evidence(self) -> list[dict[str, Any]]:
        """What the kernel has counted so far, one entry for each fault that is counted."""
        return [
            {"fault": planned.fault.name, "target": planned.target.spec, **msgspec.to_builtins(found)}
            for planned, found in self._counted()
        ]

    def _counted(self) -> Iterator[tuple[PlannedFault, Evidence]]:
        for course in self._courses:
            if (found := course.evidence()) is not None:
                yield course.planned, found

    def hits(self) -> list[dict[str, Any]]:
        """Some of the events that got a fault since this was last asked for, the newest of each edit."""
        told = self._told + [hit for planned in self.live for hit in _hits(planned)]
        self._told = []
        return told

    def unhit(self) -> str:
        """Which fault has hit nothing, in words; empty when each has."""
        for course in self._courses:
            about = f"{course.planned.fault.name} on {course.planned.target.spec}"
            found = course.evidence()
            if not course.seen:
                return f"{about} was never in force"
            if found is not None and not found.injected:
                return f"{about} hit nothing"
        return ""


def _hits(planned: PlannedFault) -> list[dict[str, Any]]:
    return [
        {"fault": planned.fault.name, **msgspec.to_builtins(hit)}
        for edit in planned.edits
        for hit in edit.hits()[-_HITS:]
    ]


def _scale(course: _Course, level: float, share: float) -> None:
    for edit in course.planned.edits:
        if edit.control:
            edit.scale(level, share)
