"""Runs in short: a line of the history, and how a live one stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaosd.errors import ChaosdError
from chaosd.kernel.process import ProcessRef
from chaosd.report import facts, score, store
from chaosd.report.fold import View


def history(limit: int, scenario: str | None) -> list[dict[str, Any]]:
    """The runs of this host, the newest first.

    Args:
        limit: at most so many.
        scenario: only runs of the scenario of this name.

    Raises:
        ChaosdError: the journals are for root.
    """
    paths = [path for path in store.journals() if scenario in (None, store.scenario(path))]
    return [_entry(view) for path in paths[:limit] if (view := _readable(path))]


def _readable(path: Path) -> View | None:
    try:
        return store.load(path)
    except ChaosdError:
        return None  # gone meanwhile, or what is left of one that a full disk cut off


def _entry(view: View) -> dict[str, Any]:
    verdict, reason = facts.verdict(view)
    faults = view.plan.get("faults", ())
    return {
        "run": view.run,
        "began": view.began,
        "scenario": view.scenario,
        "targets": list(dict.fromkeys(fault["target"] for fault in faults)),
        "verdict": verdict,
        "reason": reason,
        "took": view.ended - view.started,
        "hits": facts.hits(view),
        "recovered_after": view.recovered_after,
        "score": score.of_run(view).value,
    }


def owner(view: View) -> ProcessRef:
    """The engine of a run; nobody where its journal does not say."""
    return ProcessRef(**view.process) if view.process else ProcessRef(0, 0)


def summary(view: View) -> dict[str, Any]:
    """How a live run stands, whether its engine is ``alive``, and its ``open_edits``."""
    return view.brief() | {"alive": owner(view).alive(), "open_edits": view.open_edits()}
