"""What can be said of a run: the figures that reports show and the score is made of."""

from __future__ import annotations

from typing import Any

from chaosd.report import words
from chaosd.report.fold import View

RECOVERY_TARGET = 120.0
"""Seconds within which a resilient system is whole again once a fault is lifted."""
AVAILABILITY_TARGET = 0.95
"""Share of good answers that a resilient system keeps up while the fault is in force."""
UNFINISHED = "unfinished"
"""The verdict of a journal without an end: the run is live, or whoever wrote it is dead."""

_FIGURES = ("p50", "p95", "p99", "max", "per_second", "availability", "error_rate")


def verdict(view: View) -> tuple[str, str]:
    """How a run ended and why; also of one whose journal has no end."""
    if view.verdict:
        return view.verdict, view.reason
    return UNFINISHED, f"the journal ends in phase {view.phase}: the run is live, or it was killed"


def steady_checks(view: View) -> list[str]:
    """The checks that make up the steady state."""
    return list(view.plan.get("steady_state", ()))


def good(view: View, when: str) -> tuple[int, int]:
    """How many probes of the steady state were good, of how many, ``before``, ``during`` or ``after``."""
    found = [view.stats.get(when, {}).get(name, {}) for name in steady_checks(view)]
    return sum(stats.get("ok", 0) for stats in found), sum(stats.get("count", 0) for stats in found)


def availability(view: View, when: str = "during") -> float | None:
    """The share of good probes of the steady state, 0 to 1; None when there were none."""
    ok, count = good(view, when)
    return ok / count if count else None


def fault_over(view: View) -> float:
    """When the faults were lifted, or the newest that is known, in CLOCK_BOOTTIME seconds."""
    return next((phase.t for phase in view.phases if phase.name == "revert"), view.ended)


def fault_seconds(view: View) -> float:
    """For how long the faults were in force; 0 when they never were."""
    return max(fault_over(view) - view.live, 0.0) if view.live else 0.0


def steady_share(view: View) -> float | None:
    """The share of samples in which the whole steady state held while the faults were in force.

    A sample looks back over two seconds; it holds when every probe in it was good. None when there
    is no steady state, or no sample of that time.
    """
    names = steady_checks(view)
    over = fault_over(view)
    during = [point for point in view.series if view.live and view.live <= point.t <= over]
    if not names or not during:
        return None
    held = [p for p in during if all(p.checks.get(name, {}).get("availability") == 1 for name in names)]
    return len(held) / len(during)


def hits(view: View) -> int | None:
    """How many events got a fault; None when nothing counts them."""
    return sum(entry["injected"] for entry in view.evidence) if view.evidence else None


def crossed(view: View) -> str:
    """The threshold that ended the run; empty when none did."""
    if view.verdict != "aborted":
        return ""
    return next((text for text in view.plan.get("abort_when", ()) if view.reason.startswith(f"{text}:")), "")


def families(view: View) -> list[str]:
    """The families of the faults of a run, such as ``network``."""
    return sorted({fault["fault"].partition(".")[0] for fault in view.plan.get("faults", ())})


def figures(stats: dict[str, Any]) -> dict[str, float]:
    """The numbers of one check that are there: seconds, shares, rates, and what the kind measures itself."""
    own = stats.get("figures") or ({"value": stats["value"]} if stats.get("value") is not None else {})
    return {name: stats[name] for name in _FIGURES if stats.get(name) is not None} | own


def restoration(view: View) -> str:
    """Whether the host is as it was before, in words."""
    said = view.restored
    if view.open_edits():
        lines = "\n  ".join(f"{e.says}: {e.state}" for e in view.edits.values() if e.open)
        return f"host NOT restored; the watchdog tries on for a minute, then: chaosd revert --all\n  {lines}"
    if not view.edits:
        return "the host was not touched"
    text = f"host restored: {words.several(len(view.edits), 'edit')} put back"
    text += f" in {words.seconds(said['took'])}" if "took" in said else ""
    text += f", {words.several(said.get('compared', 0), 'reading')} compared with before"
    differs = said.get("differs", [])
    foreign = [e.says for e in view.edits.values() if "left alone" in e.state]
    text += f", {len(differs)} differ: {', '.join(differs)}" if differs else ", all the same"
    return text + "".join(f"\n  changed by others meanwhile, left alone: {says}" for says in foreign)
