"""From the state of a run to what a report says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaosd import __version__
from chaosd.checks.threshold import Threshold
from chaosd.errors import ChaosdError
from chaosd.report import facts, model, reproduce, score, series, words
from chaosd.report.fold import View
from chaosd.report.model import Fact, Line, Report, Run, Skipped


def report(views: Sequence[View], title: str = "", skipped: Sequence[Skipped] = ()) -> Report:
    """Everything that a report shows, of runs in this order."""
    runs = tuple(run(view) for view in views)
    named = runs[0].scenario if len(runs) == 1 else f"{len(runs)} runs"
    return Report(model.FORMAT, title or named, __version__, score.of_runs(views), runs, tuple(skipped))


def run(view: View) -> Run:
    """Everything that a report shows of one run."""
    verdict, reason = facts.verdict(view)
    plan = view.plan
    faults = tuple(_fault(fault, plan.get("duration", 0.0)) for fault in plan.get("faults", ()))
    return Run(
        run=view.run,
        scenario=view.scenario,
        category=plan.get("category", ""),
        description=plan.get("description", ""),
        targets=tuple(dict.fromkeys(fault.target for fault in faults)),
        verdict=verdict,
        reason=reason,
        began=view.began,
        took=view.ended - view.started,
        duration=plan.get("duration", 0.0),
        in_force=facts.fault_seconds(view),
        seed=plan.get("seed", 0),
        radius=plan.get("radius", ""),
        command=reproduce.command(view),
        faults=faults,
        checks=_checks(view),
        availability=facts.availability(view),
        steady_share=facts.steady_share(view),
        recovered_after=view.recovered_after,
        hits=facts.hits(view),
        facts=_facts(view),
        score=score.of_run(view),
        restoration=_restoration(view),
        thresholds=tuple(_lines(view)),
        expected=tuple(model.Expectation(**outcome) for outcome in view.expected),
        evidence=tuple(_evidence(entry) for entry in view.evidence),
        followed=view.followed,
        single=tuple(_hit(hit, view) for hit in view.hits),
        edits=tuple(model.Edit(edit.says, edit.state, edit.open) for edit in view.edits.values()),
        phases=_phases(view),
        series=series.of(view),
    )


def _fault(fault: dict[str, Any], duration: float) -> model.Fault:
    return model.Fault(
        fault=fault["fault"],
        target=fault["target"],
        mechanism=fault["mechanism"],
        irreversible=fault["irreversible"],
        fields=fault.get("fields", {}),
        edits=tuple(fault["edits"]),
        effect=tuple(fault["effect"]),
        starts=fault.get("start", 0.0),
        ends=fault.get("end", duration),
        shape=fault.get("shape", ""),
    )


def _checks(view: View) -> tuple[model.Check, ...]:
    asks = view.plan.get("steady_state", {})
    names = dict.fromkeys([*asks, *(name for stats in view.stats.values() for name in stats), *view.checks])
    return tuple(
        model.Check(
            name=name,
            asks=asks.get(name, ""),
            steady=name in asks,
            before=_figures(view, "before", name),
            during=_figures(view, "during", name),
            after=_figures(view, "after", name),
            failure=view.stats.get("during", {}).get(name, {}).get("failure", ""),
        )
        for name in names
    )


def _figures(view: View, when: str, name: str) -> dict[str, float]:
    stats = view.stats.get(when, {}).get(name, {})
    return {"count": stats["count"], **facts.figures(stats)} if stats.get("count") else {}


def _facts(view: View) -> tuple[Fact, ...]:
    up = facts.availability(view)
    down = None if up is None else 1 - up
    steady, took = facts.steady_share(view), view.recovered_after
    target, limit = facts.AVAILABILITY_TARGET, facts.RECOVERY_TARGET
    return (
        Fact("Availability", up, words.share(up), f"> {target:.0%}", None if up is None else up > target),
        Fact(
            "Error rate", down, words.share(down), f"< {1 - target:.0%}", None if up is None else up > target
        ),
        Fact(
            "Recovery",
            took,
            words.seconds(took),
            f"< {words.seconds(limit)}",
            None if took is None else took < limit,
        ),
        Fact("Steady state held", steady, words.share(steady), "of the fault", None),
    )


def _restoration(view: View) -> model.Restoration:
    said = view.restored
    stuck = view.open_edits()
    return model.Restoration(
        restored=not stuck,
        says="; ".join(stuck) if stuck else facts.restoration(view),
        took=said.get("took"),
        compared=said.get("compared", 0),
        differs=tuple(said.get("differs", ())),
    )


def _lines(view: View) -> list[Line]:
    ended_by = facts.crossed(view)
    found = []
    for text in view.plan.get("abort_when", ()):
        try:
            limit = Threshold.parse(text)
        except ChaosdError:  # written by a version that knows other figures
            continue
        found.append(Line(text, limit.check, limit.metric, limit.limit, text == ended_by))
    return found


def _evidence(entry: dict[str, Any]) -> model.Evidence:
    skipped = {why: count for why, count in entry["skipped"].items() if count}
    most = sorted(entry.get("processes", {}).items(), key=lambda item: -item[1])
    return model.Evidence(
        entry["fault"],
        entry["target"],
        entry["unit"],
        entry["matched"],
        entry["injected"],
        skipped,
        {int(pid): count for pid, count in most},
    )


def _hit(hit: dict[str, Any], view: View) -> model.Hit:
    at = round(hit["t"] - (view.live or view.started), 4)
    return model.Hit(at, *(hit[key] for key in ("fault", "pid", "comm", "call", "result", "detail")))


def _phases(view: View) -> tuple[model.Phase, ...]:
    origin = view.live or view.started
    ends = [*(phase.t for phase in view.phases[1:]), view.ended]
    return tuple(
        model.Phase(phase.name, round(phase.t - origin, 3), round(end - origin, 3))
        for phase, end in zip(view.phases, ends, strict=False)
    )
