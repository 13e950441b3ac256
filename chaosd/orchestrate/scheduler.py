"""Which schedule is due, and the loop that runs it: one run at a time.

What comes due while another run goes on waits for its end. What comes due several times until its
turn comes is run once. What came due while no scheduler was there is dealt with as ``missed`` says.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from chaosd import events
from chaosd.errors import ChaosdError, Exit
from chaosd.orchestrate import apart, schedule, state
from chaosd.orchestrate.schedule import Schedule
from chaosd.orchestrate.waiting import Stop
from chaosd.places import state_dir
from chaosd.report.fold import View

_LOOK_BACK = (3600.0, 86400.0, 32 * 86400.0, 366 * 86400.0, math.inf)


class Memory(msgspec.Struct, frozen=True):
    """Of one schedule: the last due time that was dealt with, and the one that was last run; 0 if none."""

    seen: float
    ran: float = 0.0


class Due(msgspec.Struct, frozen=True):
    """A schedule whose time has come: ``nominal`` as cron says, ``at`` with the jitter."""

    schedule: Schedule
    nominal: float
    at: float
    missed: bool = False


Event = Callable[[str, Due | None, View | None], None]
"""Is told in words what happens, to which schedule, and what came of its run."""


class Scheduler:
    """Knows what is due; moments are seconds since the epoch.

    Args:
        since: what came due before this moment was missed.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.problems: list[str] = []

    def schedules(self) -> list[Schedule]:
        """Those that are not paused, read anew; ``problems`` holds a line for each broken file."""
        found, self.problems = schedule.read_all()
        return [each for each in found if not paused(each.name)]

    def next_due(self, now: float) -> float:
        """When anything is due next; infinity if nothing ever is."""
        next_ones = (due for each in self.schedules() for due in upcoming(each, _seen(each, now), 1))
        return min((due.at for due in next_ones), default=math.inf)

    def due(self, now: float) -> list[Due]:
        """What is due, in the order in which it came due."""
        found = (self._due(each, now) for each in self.schedules())
        return sorted((due for due in found if due is not None), key=lambda due: due.at)

    def _due(self, each: Schedule, now: float) -> Due | None:
        seen = _seen(each, now)
        found = _last(each, seen, now)
        if found is None:
            return None
        return msgspec.structs.replace(found, missed=found.at <= self.since)

    def begin(self, due: Due) -> bool:
        """Write down that it is dealt with, before it is; whether it is to be run."""
        runs = not due.missed or due.schedule.missed == "run-once"
        ran = due.nominal if runs else remembered(due.schedule.name).ran
        state.save(_place(due.schedule.name), Memory(due.nominal, ran))
        return runs

    def run(self, stop: Stop, tell: Event) -> Exit:
        """Run what is due until a signal comes, or the host could not be put back."""
        known: set[str] = set()
        while not stop.number:
            now = time.time()
            waiting = self.due(now)
            for problem in self.problems:
                if problem not in known:
                    tell(problem, None, None)
                    _log(None, problem, "unreadable")
            known = set(self.problems)
            if not waiting:
                stop.wait_until(self.next_due(now))
                continue
            if (status := self._run(waiting[0], stop, tell)) is Exit.NOT_RESTORED or stop.number:
                return status
        return Exit.OK

    def _run(self, due: Due, stop: Stop, tell: Event) -> Exit:
        if not self.begin(due):
            tell("missed, skipped", due, None)
            _log(due, "missed, skipped", "missed")
            return Exit.OK
        tell("begins", due, None)
        _log(due, "begins", "begun")
        try:
            view = apart.run(due.schedule.entry.load(), stop)
        except ChaosdError as error:  # the scenario's file has changed since it was read
            tell(str(error), due, None)
            _log(due, str(error), "refused")
            return error.exit
        tell("ended", due, view)
        _log(due, f"ended: {view.verdict} {view.reason}".rstrip(), view.verdict, view.run)
        return apart.status(view)


def _log(due: Due | None, says: str, outcome: str, run: str = "") -> None:
    which = {"schedule": due.schedule.name} if due else {}
    events.log(events.of_schedule({**which, "at": time.time(), "says": says, "outcome": outcome, "run": run}))


def upcoming(each: Schedule, after: float, count: int) -> list[Due]:
    """The next due times of a schedule after a moment that ``cron`` itself names."""
    return [Due(each, at, _put_off(each, at)) for at in islice(each.cron.after(after, each.timezone), count)]


def coming(each: Schedule, now: float, count: int) -> list[Due]:
    """When a schedule is run next, as far as nothing is left over from before."""
    after = max(remembered(each.name).seen, now - each.jitter)
    every = (Due(each, at, _put_off(each, at)) for at in each.cron.after(after, each.timezone))
    return list(islice((due for due in every if due.at > now), count))


def _last(each: Schedule, seen: float, now: float) -> Due | None:
    """The last due time until now that was not dealt with yet."""
    for span in _LOOK_BACK:  # what is due every second for a year need not be gone through
        found = None
        start = max(seen, now - span - each.jitter)
        for nominal in each.cron.after(start, each.timezone):
            if (at := _put_off(each, nominal)) > now:
                break
            found = Due(each, nominal, at)
        if found is not None or start == seen:
            return found
    return None


def _put_off(each: Schedule, nominal: float) -> float:
    digest = hashlib.blake2b(f"{each.name} {nominal:.0f}".encode(), digest_size=8).digest()
    return nominal + each.jitter * int.from_bytes(digest) / 2**64


def remembered(name: str) -> Memory:
    """What is known of a schedule (``ChaosdError`` if it cannot be read)."""
    return state.load(_place(name), Memory) or Memory(0.0)


def _seen(each: Schedule, now: float) -> float:
    """Up to when a schedule's due times are dealt with; one that is new begins now."""
    memory = remembered(each.name)
    if not memory.seen:
        memory = Memory(now)
        state.save(_place(each.name), memory)
    return memory.seen


def pause(name: str) -> None:
    """Let a schedule rest until it is resumed."""
    state.write(_mark(name), b"")


def resume(name: str, now: float) -> None:
    """Let it be due again, from now on."""
    state.save(_place(name), Memory(now, remembered(name).ran))
    _mark(name).unlink(missing_ok=True)


def paused(name: str) -> bool:
    """Whether it rests."""
    return _mark(name).exists()


def forget(name: str) -> None:
    """Remove all that is known of a schedule."""
    for path in (_place(name), _mark(name)):
        with suppress(FileNotFoundError):
            path.unlink()


def _place(name: str) -> Path:
    return state_dir() / "schedules" / f"{name}.json"


def _mark(name: str) -> Path:
    return state_dir() / "schedules" / f"{name}.paused"
