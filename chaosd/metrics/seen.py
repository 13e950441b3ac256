"""What metrics want of a run: plain data, folded from its journal."""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec

from chaosd.errors import ChaosdError
from chaosd.report import facts, score, store
from chaosd.report.brief import owner
from chaosd.report.fold import View


class Seen(msgspec.Struct, frozen=True):
    """Of one run what metrics want; times in seconds.

    ``closed`` says that its journal is in the history, ``over`` when it was written to last, in Unix time.
    ``faults`` has name and mechanism of those that came into force, ``evidence`` fault, unit, and how many
    events matched and were injected.
    """

    run: str
    scenario: str
    closed: bool
    alive: bool
    verdict: str
    over: float
    faults: list[tuple[str, str]]
    active: list[str]
    evidence: list[tuple[str, str, int, int]]
    open_edits: int
    overdue: float
    breached: bool
    differs: int
    foreign: int
    reverted_in: float | None
    recovered_after: float | None
    availability: float | None
    score: float | None


def of(view: View, *, closed: bool = False) -> Seen:
    """What metrics want of a run as it is now."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    alive = not closed and owner(view).alive()
    count = len(view.open_edits())
    return Seen(
        run=view.run,
        scenario=view.scenario,
        closed=closed,
        alive=alive,
        verdict=view.verdict,
        over=view.began + view.ended - view.started,
        faults=_in_force(view),
        active=_active(view, now) if alive or count else [],
        evidence=[(e["fault"], e["unit"], e["matched"], e["injected"]) for e in view.evidence],
        open_edits=count,
        overdue=max(now - view.fault_ends, 0.0) if count and view.fault_ends else 0.0,
        breached=bool(facts.crossed(view)),
        differs=len(view.restored.get("differs", ())),
        foreign=len([edit for edit in view.edits.values() if "left alone" in edit.state]),
        reverted_in=view.restored.get("took") if view.edits else None,
        recovered_after=view.recovered_after,
        availability=facts.availability(view) if closed else None,
        score=score.of_run(view).value if closed else None,
    )


def _in_force(view: View) -> list[tuple[str, str]]:
    lasted = facts.fault_seconds(view)
    begun = [each for each in view.plan.get("faults", ()) if view.live and each.get("start", 0.0) <= lasted]
    return [(each["fault"], each["mechanism"]) for each in begun]


def _active(view: View, now: float) -> list[str]:
    if view.phase != "fault":
        return []
    at, last = now - view.live, view.plan["duration"]
    return [
        each["fault"]
        for each in view.plan["faults"]
        if each.get("start", 0.0) <= at and (at < each.get("end", last) or each.get("end", last) >= last)
    ]


def journals() -> tuple[set[str], set[str]]:
    """The runs that have a live journal, and those that have a closed one.

    One that is being closed meanwhile is in both, and none is in neither.
    """
    live, *closed = ({path.stem for path in store.within(folder)} for folder in store.folders())
    return live, set().union(*closed)


def look(run: str) -> Seen | None:
    """The same of a run by its journal; None where that is gone, or is none."""
    live, *closed = store.folders()
    for folder in (*closed, live):
        with suppress(ChaosdError):
            return of(store.load(folder / f"{run}.jsonl"), closed=folder != live)
    return None
