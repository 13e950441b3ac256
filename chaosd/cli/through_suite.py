"""Suites through the daemon: what it tells, shown and summed up as a suite of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from chaosd import client
from chaosd.cli import through
from chaosd.client import ForbiddenError, GoneError
from chaosd.daemon.refusals import raise_any
from chaosd.errors import ChaosdError, DiedError, Exit
from chaosd.orchestrate import suite as suites
from chaosd.orchestrate.entry import Entry
from chaosd.orchestrate.suite import Outcome, Suite, Watcher
from chaosd.report.fold import View
from chaosd.report.render import Skipped
from chaosd.scenario import Scenario


def begin(suite: Suite, *, confirmed: bool) -> str | None:
    """Have the daemon start a suite.

    Args:
        suite: what to run, in full.
        confirmed: the user has said yes to a radius of the entire system.

    Returns:
        The suite's id; None when it is for this process to do, see ``through.asked``.

    Raises:
        ChaosdError: it was refused.
    """
    text, files = suites.told(suite)
    begun = through.asked("/v1/suites", {"text": text, "files": files, "yes_entire_system": confirmed})
    return begun and str(begun["suite"])


def follow(name: str, scenarios: list[Scenario], watcher: Watcher) -> Outcome:
    """Follow a suite to its end; Ctrl-C and SIGTERM end it, and this once its run is put back.

    Args:
        name: its id.
        scenarios: those of the suite, in order.
        watcher: is told how it goes on.

    Raises:
        DiedError: the daemon died, or the process of the suite; then its run is being put back.
    """
    views: list[View] = []
    skipped: list[Skipped] = []
    view = View()
    with through.stopping(f"/v1/suites/{name}/stop"), suppress(GoneError):
        for record in client.follow(f"/v1/suites/{name}/events"):
            match record["type"]:
                case "begins":
                    scenario = scenarios[record["number"] - 1]
                    view = View(scenario=scenario.name)
                    watcher.begins(record["number"], scenario)
                case "run":
                    _watch(record["run"], view, watcher)
                case "ended":
                    view.verdict, view.reason = record["verdict"], record["reason"]
                    views.append(view)
                    watcher.ended(view)
                case "skipped":
                    skipped.append(Skipped(record["scenario"], record["reason"]))
                    watcher.skipped(skipped[-1])
                case "suite-ended":
                    return Outcome(views, skipped, Exit(record["exit"]))
                case _:
                    raise_any(record)
    raise DiedError("what did the suite has died; its run is being put back", hint="chaosd status")


def _watch(run: str, view: View, watcher: Watcher) -> None:
    for record in client.events(run):
        view.add(record)
        watcher.record(record, view)


def rehearse(suite: Suite, scenarios: list[Scenario]) -> Iterator[dict[str, Any] | Skipped]:
    """What each run would do on this host as the daemon plans it, or why it cannot."""
    for entry, scenario in zip(suite.entries, scenarios, strict=True):
        try:
            yield client.ask("POST", "/v1/plans", _order(entry) | {"set": entry.set, **entry.own()})
        except (ForbiddenError, GoneError):
            raise
        except ChaosdError as error:
            yield Skipped(scenario.name, str(error))


def _order(entry: Entry) -> dict[str, str]:
    told = entry.told()
    return {"scenario": told.scenario} if told.text is None else client.named(told.scenario)
