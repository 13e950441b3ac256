"""The resilience score: 0 to 100 for how a system stood a fault; docs/score.md explains every number."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import msgspec

from chaosd.checks.threshold import ENOUGH
from chaosd.faults.base import registry
from chaosd.report import facts, words
from chaosd.report.fold import View

WEIGHTS = {"steady state": 50.0, "endurance": 20.0, "recovery": 30.0}
"""The most points that each part gives; 100 together."""
_OWN = "probe"  # faults that a user writes, which no set of families can be complete in


class Part(msgspec.Struct, frozen=True):
    """One part of a score: ``share`` (0 to 1) of its ``weight`` in points, and why so much."""

    name: str
    weight: float
    share: float
    why: str

    @property
    def points(self) -> float:
        """What it adds to the score."""
        return self.weight * self.share


class Score(msgspec.Struct, frozen=True):
    """The score of a run; ``value`` is None when it has none, and ``why_not`` says why."""

    value: float | None = None
    parts: tuple[Part, ...] = ()
    why_not: str = ""


class Coverage(msgspec.Struct, frozen=True):
    """The score of several runs.

    ``value`` is the mean of ``families``, which has the mean score for each family of faults that was
    tried. ``untried`` are the other families that there are. ``scored`` of ``runs`` runs have a score.
    """

    value: float | None
    families: dict[str, float]
    untried: tuple[str, ...]
    scored: int
    runs: int


def of_run(view: View) -> Score:
    """The score of a run that has shown something about the system, and none of any other."""
    if why_not := _unscored(view):
        return Score(why_not=why_not)
    parts = (_steady(view), _endurance(view), _recovery(view))
    return Score(sum(part.points for part in parts), parts)


def of_runs(views: Sequence[View]) -> Coverage:
    """The score of several runs, in which each family of faults counts the same."""
    found: dict[str, list[float]] = {}
    scored = [(value, facts.families(view)) for view in views if (value := of_run(view).value) is not None]
    for value, families in scored:
        for family in families:
            found.setdefault(family, []).append(value)
    means = {family: fmean(values) for family, values in sorted(found.items())}
    known = {name.partition(".")[0] for name in registry()} - {_OWN}
    untried = tuple(sorted(known - means.keys()))
    return Coverage(fmean(means.values()) if means else None, means, untried, len(scored), len(views))


def _unscored(view: View) -> str:
    verdict, _ = facts.verdict(view)
    if verdict not in ("passed", "failed", "aborted", "target-lost"):
        return f"a run that is {verdict} shows nothing about the system"
    if not facts.steady_checks(view):
        return "no steady state was stated, so nothing was measured"
    if verdict == "aborted" and not facts.crossed(view):
        return "it was no threshold that ended the run"
    if not view.live or (verdict == "failed" and "after" not in view.stats):
        return "the run broke off before the system was put to the test"
    if facts.good(view, "during")[1] < ENOUGH:
        return f"fewer than {ENOUGH} probes while the fault was in force"
    return ""


def _part(name: str, share: float, why: str) -> Part:
    return Part(name, WEIGHTS[name], min(max(share, 0.0), 1.0), why)


def _steady(view: View) -> Part:
    ok, count = facts.good(view, "during")
    return _part("steady state", ok / count, f"{ok:,} of {count:,} probes were good during the fault")


def _endurance(view: View) -> Part:
    if view.verdict not in ("aborted", "target-lost"):
        held = [outcome["held"] for outcome in view.expected]
        said = f", and {sum(held)} of {words.several(len(held), 'expectation')} came true" if held else ""
        share = sum(held) / len(held) if held else 1.0
        return _part("endurance", share, f"no threshold was crossed, the target stayed{said}")
    lasted, planned = facts.fault_seconds(view), view.plan["duration"]
    what = facts.crossed(view) or "the target was lost"
    return _part(
        "endurance", lasted / planned, f"{what} after {words.seconds(lasted)} of {words.seconds(planned)}"
    )


def _recovery(view: View) -> Part:
    took = view.recovered_after
    if took is None:
        return _part("recovery", 0.0, "the steady state was not seen to come back")
    share = 1 - took / (2 * facts.RECOVERY_TARGET)
    return _part("recovery", share, f"steady again {words.seconds(took)} after the fault was lifted")
