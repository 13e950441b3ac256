"""Schedules as people see them: when each is due next, and when it was last run."""

from __future__ import annotations

import time
from typing import Any

from chaosd.orchestrate import scheduler
from chaosd.orchestrate.schedule import Schedule

_SHOWN = 5


def row(each: Schedule) -> dict[str, Any]:
    """A schedule as data, with the next due times in words of its own time zone."""
    memory = scheduler.remembered(each.name)
    coming = scheduler.coming(each, time.time(), _SHOWN)
    return {
        "name": each.name,
        "cron": str(each.cron),
        "scenario": each.entry.scenario,
        "target": each.entry.target,
        "added_by": each.added_by,
        "paused": scheduler.paused(each.name),
        "last": moment(each, memory.ran) if memory.ran else "",
        "next": [moment(each, due.at) for due in coming],
    }


def moment(each: Schedule, at: float) -> str:
    """A moment, in seconds since the epoch, by the clock of a schedule."""
    return f"{each.timezone.local(at):%a %Y-%m-%d %H:%M:%S %Z}"
