"""Deeds of many runs, or of none: a suite, a schedule that is added, and a tick of the monkey."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from chaosd import document, engine
from chaosd.daemon.deeds import answering, deed, library, permit
from chaosd.daemon.zygote import Tell
from chaosd.errors import ChaosdError
from chaosd.journal import Record
from chaosd.orchestrate import monkey as choices
from chaosd.orchestrate import schedule as schedules
from chaosd.orchestrate import scheduler, timetable
from chaosd.orchestrate import suite as suites
from chaosd.orchestrate.entry import of_category
from chaosd.orchestrate.monkeying import Monkey, row
from chaosd.orchestrate.suite import Suite
from chaosd.orchestrate.waiting import Stop
from chaosd.report.fold import View
from chaosd.report.render import Skipped
from chaosd.scenario import Scenario
from chaosd.units import Duration

Order = dict[str, Any]
_MOST = 200  # every look at the daemon's status reads them all


@deed
def suite(order: Order, tell: Tell) -> int:
    """Run a suite: what it is, the records of its runs, and between them how it goes on."""
    chosen = _settled(_suite(order), order)
    overrides = order["overrides"]
    if "duration" in overrides:
        overrides = overrides | {"duration": Duration.parse(overrides["duration"])}
    scenarios = suites.scenarios(suites.settled(chosen, overrides, order["settings"]))
    for each in scenarios:
        permit(each, order["allow"])
    tell({"type": "suite", "name": chosen.name, "scenarios": [each.name for each in scenarios]})
    with Stop() as stop:
        done = suites.run(chosen, scenarios, stop, _Teller(tell), confirmed=order["confirmed"])
    tell({"type": "suite-ended", "exit": int(done.status)})
    return int(done.status)


def _suite(order: Order) -> Suite:
    if order["category"]:
        return Suite(name=order["category"], entries=tuple(of_category(order["category"])))
    data, _ = document.load(order["text"], "suite")
    items = data.get("scenarios") if isinstance(data, dict) else None
    for item in items if isinstance(items, list) else ():
        words = item if isinstance(item, dict) else [item]
        for word in words:  # a name would else be taken for that of a file
            if str(word) not in order["files"]:
                library(str(word))
    return suites.parse(order["text"], "suite", Path("/nonexistent"), order["files"])


def _settled(chosen: Suite, order: Order) -> Suite:
    pause, on_failure = order["pause"], order["on_failure"]
    return replace(
        chosen,
        pause=Duration.parse(pause) if pause is not None else chosen.pause,
        on_failure=on_failure or chosen.on_failure,
    )


class _Teller(suites.Watcher):
    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def begins(self, number: int, scenario: Scenario) -> None:
        self._tell({"type": "begins", "number": number, "scenario": scenario.name})

    def record(self, record: Record, _view: View) -> None:
        self._tell(record)

    def ended(self, view: View) -> None:
        said = {"scenario": view.scenario, "verdict": view.verdict, "reason": view.reason}
        self._tell({"type": "ended", "run": view.run, **said})

    def skipped(self, skipped: Skipped) -> None:
        self._tell({"type": "skipped", "scenario": skipped.scenario, "reason": skipped.reason})


@answering
def add_schedule(order: Order) -> Any:
    """Write a schedule; what it does must be allowed to the client now, and again whenever it is due."""
    if len([*schedules.folder().glob("*.yaml")]) >= _MOST:
        raise ChaosdError(f"there are {_MOST} schedules already", hint="chaosd schedule remove NAME")
    if order["text"]:
        sent = order["text"]
    else:
        library(order["data"]["scenario"])  # a name would else be taken for that of a file
        sent = None
    data = order["data"] | {"added_by": order["who"]}
    permit(schedules.draft(order["name"], data, sent).entry.load(), order["allow"])
    added = schedules.add(order["name"], data, sent)
    scheduler.resume(added.name, time.time())
    return timetable.row(added)


@deed
def tick(order: Order, tell: Tell) -> int:
    """Deal with a tick of the monkey: what was decided, and the records of the run that comes of it."""
    place = Path(order["config"])
    monkey = Monkey(choices.load(place), place.stem, lambda *_: None)
    decision, chosen = monkey.choose(order["tick"])
    tell({"type": "monkey", **row(monkey.config, decision)})
    if chosen is None:
        return 0
    try:
        return int(engine.execute(chosen, tell))
    except ChaosdError as error:
        tell({"type": "refused", "reason": str(error)})
        return int(error.exit)
