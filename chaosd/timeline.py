"""Which faults of a run are in force at a moment, and how strong each is.

The engine says what time it is; here each fault is begun, made stronger or weaker, and ended. Every
change of the kernel goes through the two functions of the engine that promise and undo. Where the run
follows its targets, the fault of one that was started again ends, and begins anew on what it has become.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from chaosd.canary import turns
from chaosd.errors import ChaosdError, TargetLostError
from chaosd.follow import Search
from chaosd.kernel.edit import Edit, Evidence
from chaosd.plan import Plan, PlannedFault, add_up, anew
from chaosd.restore import surroundings

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
        self.search: Search | None = None  # for its target, which is gone
        self.moved = False  # to a target whose surroundings are not on record yet

    def evidence(self) -> Evidence | None:
        parts = [found for edit in self.planned.edits if (found := edit.evidence())]
        return add_up(self.over + parts) if self.over or parts else None


class Timeline:
    """All faults of a plan.

    Args:
        plan: what is to happen.
        apply: promises and applies an edit.
        revert: puts some edits back, the last one first.
        write: puts a record into the journal.
    """

    def __init__(
        self,
        plan: Plan,
        apply: Callable[[Edit], None],
        revert: Callable[[Sequence[Edit]], None],
        write: Callable[..., None],
    ) -> None:
        self._scenario, self._follows = plan.scenario, plan.scenario.on_restart == "follow"
        self._courses = [_Course(planned) for planned in plan.faults]
        self._turns: dict[str, float] = {}
        if plan.scenario.canary and plan.scenario.canary.of == "targets":
            self._turns = turns((planned.target.spec for planned in plan.faults), plan.seed)
        self._apply, self._revert, self._write = apply, revert, write
        self._told: list[dict[str, Any]] = []
        self._at = 0.0

    @property
    def live(self) -> list[PlannedFault]:
        """The faults in force."""
        return [course.planned for course in self._courses if course.begun]

    @property
    def edits(self) -> set[Edit]:
        """The edits of all faults, on the targets they have now."""
        return {edit for course in self._courses for edit in course.planned.edits}

    def prepare(self, at: float) -> bool:
        """Start what faults need that begin within ``AHEAD``; whether those that are due are ready."""
        soon = [course for course in self._courses if self._is_soon(course, at)]
        for course in soon:
            for edit in course.planned.edits:
                edit.prepare()
        return all(self._is_ready(course) for course in soon if course.planned.start <= at)

    def _is_soon(self, course: _Course, at: float) -> bool:
        planned = course.planned
        return not course.begun and not course.search and planned.start - AHEAD <= at < planned.end

    def _is_ready(self, course: _Course) -> bool:
        return all([edit.ready() for edit in course.planned.edits])  # noqa: C419 - each is to be asked

    def move(self, at: float, share: float) -> None:
        """Bring every fault to where it is to be.

        Args:
            at: seconds since the run's faults began.
            share: of the events that may be hit, or of the targets, 0 to 1.

        Raises:
            ChaosdError: one could not be applied, or not be put back.
        """
        self._at = at
        for course in reversed(self._courses):
            if course.begun and course.planned.level(at) is None:
                self._end(course)
        for search in dict.fromkeys(course.search for course in self._courses if course.search):
            self._follow(search)
        self.prepare(at)
        for course in self._courses:
            level = course.planned.level(at)
            if level is not None and not course.search:
                self._set(course, *self._allowed(course, level, share))

    def _allowed(self, course: _Course, level: float, share: float) -> tuple[float, float]:
        if not self._turns:
            return level, share
        return (level if self._turns[course.planned.target.spec] < share else 0.0), 1.0

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
        edits = [edit for edit in course.planned.edits if edit not in held]
        if course.moved:
            known = {edit.scope for edit in held}
            self._write("before", state=surroundings(edit for edit in edits if edit.scope not in known))
        course.begun, course.seen, course.moved = True, True, False
        try:
            for edit in edits:
                self._apply(edit)
        except (ChaosdError, OSError):
            self._check(course)  # that may be why
            if course.begun:
                raise

    def _end(self, course: _Course) -> None:
        course.over += [found for edit in course.planned.edits if (found := edit.evidence())]
        self._told += _hits(course.planned)
        course.begun, course.level, course.told = False, 0.0, None
        held = {edit for planned in self.live for edit in planned.edits}
        self._revert([edit for edit in course.planned.edits if edit not in held])

    def check_targets(self) -> None:
        """End the faults of targets that are gone and were not killed on purpose.

        Raises:
            TargetLostError: there is such a one, and the run does not follow it.
        """
        for course in self._courses:
            if course.begun or (self._follows and not course.search and self._at < course.planned.end):
                self._check(course)

    def _check(self, course: _Course) -> None:
        if course.planned.fault.ends_target and course.seen:
            return
        try:
            course.planned.target.check_alive()
        except TargetLostError as why:
            if not self._follows:
                raise
            if course.begun:
                self._end(course)
            word = course.planned.target.spec
            searches = (other.search for other in self._courses if other.search)
            known = next((search for search in searches if search.word == word), None)
            course.search = known or Search(course.planned.target, why)

    def _follow(self, search: Search) -> None:
        target = search.found()
        if target is None:
            return
        courses = [course for course in self._courses if course.search is search]
        try:  # all at once, before one of them changes what the others see
            planned = [anew(course.planned, target, self._scenario) for course in courses]
        except (ChaosdError, OSError) as error:
            search.again(error)
            return
        pids = [process.pid for process in target.processes]
        for course, found in zip(courses, planned, strict=True):
            course.planned, course.search, course.moved = found, None, True
            self._write("followed", fault=found.fault.name, target=target.spec, processes=pids)

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
        """Which fault has hit nothing, in words; empty when each has.

        Raises:
            TargetLostError: the target of one is away.
        """
        for course in self._courses:
            if course.search:
                raise course.search.failure()
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
