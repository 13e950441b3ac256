"""A run in a few words, for every form of a report."""

from __future__ import annotations

from chaosd.report import words
from chaosd.report.model import Check, Run


def measured(run: Run) -> list[str]:
    """What each check saw of the faults, one line a check that was measured before and during them."""
    return [_measured(check) for check in run.checks if check.before and check.during]


def _measured(check: Check) -> str:
    before, during = check.before, check.during
    parts = []
    if "p50" in before and "p50" in during:
        more = words.difference(before["p50"], during["p50"])
        parts.append(f"p50 {words.seconds(before['p50'])} to {words.seconds(during['p50'])} ({more})")
    if "availability" in before and "availability" in during:
        parts.append(f"good {words.share(before['availability'])} to {words.share(during['availability'])}")
    return f"{check.name}: {', '.join(parts)}"


def expected(run: Run) -> list[str]:
    """What was expected of the system during the faults, and what became of it."""
    return [
        f"{outcome.says}: {outcome.measured}, {'held' if outcome.held else 'not so'}"
        for outcome in run.expected
    ]


def worst_p95(run: Run) -> float | None:
    """The longest p95 of all checks during the faults, in seconds."""
    return max((check.during["p95"] for check in run.checks if "p95" in check.during), default=None)


def mechanisms(run: Run) -> str:
    """By what its faults were done."""
    return ", ".join(dict.fromkeys(fault.mechanism for fault in run.faults))
