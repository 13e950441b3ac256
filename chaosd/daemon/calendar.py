"""Schedules in the daemon: what is due is run, one after the other, and told to whoever listens."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from chaosd import events, scenario
from chaosd.daemon.refusals import DeniedError, status_of
from chaosd.daemon.runs import Runs
from chaosd.errors import BusyError, ChaosdError
from chaosd.orchestrate import schedule, scheduler, state, timetable
from chaosd.orchestrate.scheduler import Due, Scheduler

_LOOK = 60.0
_AGAIN = 1.0
_BUSY = 409


class Calendar:
    """The schedules of /etc/chaosd/schedules.d, in the daemon's loop.

    Args:
        runs: does what is due.
        allow: the programs and files that schedules which clients have added may use.
    """

    def __init__(self, runs: Runs, allow: list[str]) -> None:
        self._runs, self._allow = runs, allow
        self._scheduler = Scheduler(time.time())
        self._changed = asyncio.Event()
        self._held: int | None = None
        self._broken: list[str] = []  # files, and what else keeps schedules from being run
        self._trouble: list[str] = []

    async def run(self) -> None:
        """Run what is due, for ever."""
        while True:
            seconds = await self._turn()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
            self._changed.clear()

    @property
    def problems(self) -> list[str]:
        """A line for each file that is no schedule, and for what else is wrong."""
        return [*self._broken, *self._trouble]

    def rows(self) -> list[dict[str, Any]]:
        """Every schedule as people see it."""
        found, problems = schedule.read_all()
        self._note(problems, self._trouble)
        return [timetable.row(each) for each in found]

    def pause(self, name: str) -> dict[str, Any]:
        """Let a schedule rest (``ChaosdError`` if there is none of this name)."""
        found = schedule.find(name)
        scheduler.pause(name)
        self.look()
        return timetable.row(found)

    def resume(self, name: str) -> dict[str, Any]:
        """Let it be due again, from now on (``ChaosdError`` if there is none of this name)."""
        found = schedule.find(name)
        scheduler.resume(name, time.time())
        self.look()
        return timetable.row(found)

    def remove(self, name: str, *, by_root: bool) -> None:
        """Delete it and what is known of it.

        Args:
            name: of the schedule.
            by_root: whether who asks might delete the file as well.

        Raises:
            ChaosdError: there is none of this name, or it is root's.
        """
        if not by_root and not schedule.find(name).added_by:
            raise DeniedError(403, f"root has written down {name!r}", f"chaosd schedule pause {name}")
        schedule.remove(name)
        scheduler.forget(name)
        self.look()

    def look(self) -> None:
        """See what has changed."""
        self._changed.set()

    async def _turn(self) -> float:
        """Deal with the first schedule that is due; for how long there is nothing to do then, in seconds."""
        if not schedule.folder().is_dir():
            return _LOOK
        try:
            self._held = self._held or state.hold("schedule")
            waiting, coming = await asyncio.to_thread(self._look)
            self._note(self._scheduler.problems, [])
            if not waiting:
                return coming
            await self._deal(waiting[0])
        except ChaosdError as error:
            self._note(self._broken, [str(error)])
            return _LOOK
        return 0.0

    def _look(self) -> tuple[list[Due], float]:
        now = time.time()
        waiting = self._scheduler.due(now)
        return waiting, max(0.0, min(self._scheduler.next_due(now) - now, _LOOK))

    def _note(self, broken: list[str], trouble: list[str]) -> None:
        for problem in (*broken, *trouble):
            if problem not in self.problems:
                self._tell(None, problem, "unreadable")
        self._broken, self._trouble = broken, trouble

    async def _deal(self, due: Due) -> None:
        if not self._scheduler.begin(due):
            self._tell(due, "missed, skipped", "missed")
            return
        waits = False
        while True:
            try:
                await self._run(due)
            except ChaosdError as error:
                busy = isinstance(error, BusyError) or status_of(error) == _BUSY
                if not waits:
                    self._tell(due, str(error), "busy" if busy else "refused")
                if not busy or due.schedule.missed == "skip":
                    return
                waits = True
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _run(self, due: Due) -> None:
        entry = due.schedule.entry
        text, name = scenario.read(entry.scenario)
        order = {"scenario": "", "text": text, "name": name, "overrides": entry.overrides()}
        called = f"schedule {due.schedule.name}"
        # what root has written down may run programs
        allow = self._allow if due.schedule.added_by else None
        child, header = await self._runs.start("run", called, **order, confirmed=False, allow=allow)
        self._tell(due, "begins", "begun", run=header["run"])
        await child.until_end()
        assert child.run is not None
        ended = child.run.view
        self._tell(due, f"ended: {ended.verdict} {ended.reason}".rstrip(), ended.verdict, run=ended.run)

    def _tell(self, due: Due | None, says: str, outcome: str, **more: Any) -> None:
        which = {"schedule": due.schedule.name, "due": due.at} if due else {}
        record = {"type": "schedule", "at": time.time(), **which, "says": says, "outcome": outcome, **more}
        self._runs.feed.add(record)
        events.log(events.of_schedule(record))
