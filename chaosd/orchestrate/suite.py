"""Several scenarios, one after the other, with one outcome."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from chaosd import document, plan
from chaosd.document import Problems
from chaosd.errors import ChaosdError, Exit
from chaosd.journal import Record
from chaosd.orchestrate import apart, entry
from chaosd.orchestrate.entry import Entry
from chaosd.orchestrate.waiting import Stop
from chaosd.plan import Plan
from chaosd.report.fold import View
from chaosd.report.render import Skipped
from chaosd.scenario import Scenario
from chaosd.units import Duration

_WORST_FIRST = (
    Exit.NOT_RESTORED,
    Exit.INTERRUPTED,
    Exit.FAILED,
    Exit.ABORTED,
    Exit.REFUSED,
    Exit.INCONCLUSIVE,
    Exit.OK,
)
PAUSE = Duration(5)
"""How long is waited between two runs, if nobody says otherwise."""

OnFailure = Literal["continue", "stop"]


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, in this order; ``on_failure`` is what to do when a run does not pass."""

    name: str
    entries: tuple[Entry, ...]
    pause: Duration = PAUSE
    on_failure: OnFailure = "continue"


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    scenarios: list[Any]
    pause: Duration = PAUSE
    on_failure: OnFailure = "continue"


class Outcome(msgspec.Struct, frozen=True):
    """How a suite ended: a view for each run in order, what was not run, and the exit status of all."""

    views: list[View]
    skipped: list[Skipped]
    status: Exit


class Watcher:
    """Is told how a suite goes on; this one does not listen."""

    def begins(self, number: int, scenario: Scenario) -> None:
        """Run ``number``, counted from 1, is about to begin."""

    def record(self, record: Record, view: View) -> None:
        """The run has written a record, and stands like this."""

    def ended(self, view: View) -> None:
        """The run has ended."""

    def skipped(self, skipped: Skipped) -> None:
        """A scenario is not run."""


def choose(word: str) -> Suite:
    """The suite that a word means: a category of the library, ``all`` of it, or a file.

    Raises:
        ChaosdError: it is none of these, or everything that is wrong with the file.
    """
    path = Path(word)
    if not path.is_file():
        if "/" in word or word.endswith((".yaml", ".yml")):
            raise ChaosdError(f"no such file: {word}")
        return Suite(name=word, entries=tuple(entry.of_category(word)))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), path.parent)


def parse(text: str, name: str, folder: Path, files: Mapping[str, str] = MappingProxyType({})) -> Suite:
    """Read a suite.

    Args:
        text: the YAML document.
        name: what to call it in messages, such as its file name.
        folder: where the files of scenarios are looked for.
        files: what some of them say, by their names; these are not looked for.

    Raises:
        ChaosdError: everything that is wrong, one line each, with file and line.
    """
    data, lines = document.load(text, name)
    if not isinstance(data, dict):
        raise ChaosdError(f"{name}: not a suite", hint="a mapping with name and scenarios")
    problems = Problems(name, lines)
    values = document.read(_Document, data, (), problems)
    items = values.pop("scenarios", [])
    if "scenarios" in data and not items:
        problems.add(("scenarios",), "names no scenario", "see: chaosd scenarios")
    entries = [entry.read(item, ("scenarios", i), folder, problems, files) for i, item in enumerate(items)]
    problems.raise_any()
    return Suite(entries=tuple(filter(None, entries)), **values)


def told(suite: Suite) -> tuple[str, dict[str, str]]:
    """A suite for another process: the document, and the ``files`` that ``parse`` wants with it."""
    entries = [each.told() for each in suite.entries]
    files = {each.scenario: each.text for each in entries if each.text is not None}
    items = [{each.scenario: {"set": each.set, **each.own()}} for each in entries]
    how = {"name": suite.name, "pause": str(suite.pause), "on_failure": suite.on_failure}
    return json.dumps(how | {"scenarios": items}, default=str), files


def settled(suite: Suite, overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> Suite:
    """A suite with what is given for all of its scenarios.

    Args:
        suite: the suite.
        overrides: ``target``, ``duration`` and ``seed``.
        settings: values of parameters, for those that have them.

    Raises:
        ChaosdError: a setting fits none.
    """
    entries = entry.fit(suite.entries, settings)
    return replace(suite, entries=tuple(replace(each, **overrides) for each in entries))


def scenarios(suite: Suite) -> list[Scenario]:
    """Every scenario of a suite, checked before the first one is run.

    Raises:
        ChaosdError: one of them is wrong or has no target.
    """
    loaded = [each.load() for each in suite.entries]
    for scenario in loaded:
        if entry.aimless(scenario):
            raise ChaosdError(
                f"{scenario.name} has no target", hint="give --target, such as --target pid:1234"
            )
    return loaded


def rehearse(chosen: list[Scenario]) -> Iterator[Plan | Skipped]:
    """What each run would do on this host, or why it cannot; reads, never writes."""
    for scenario in chosen:
        try:
            yield plan.make(scenario, confirmed=True)
        except ChaosdError as error:
            yield Skipped(scenario.name, str(error))


def run(
    suite: Suite, chosen: list[Scenario], stop: Stop, watcher: Watcher, *, confirmed: bool = False
) -> Outcome:
    """Run one scenario after the other.

    What this host cannot do is skipped. The suite ends early when a signal comes, when a run is
    interrupted, when a run does not pass and ``on_failure`` is ``stop``, and always when the host
    was not put back.

    Args:
        suite: how to go on.
        chosen: its scenarios, as ``scenarios`` gives them.
        stop: notes signals; its block lasts around this call.
        watcher: is told how it goes on.
        confirmed: the user has said yes to a radius of the entire system.
    """
    views: list[View] = []
    skipped: list[Skipped] = []
    why = ""

    def skip(name: str, reason: str) -> None:
        skipped.append(Skipped(name, reason))
        watcher.skipped(skipped[-1])

    for number, scenario in enumerate(chosen, 1):
        if not why and views and stop.wait(suite.pause):
            why = "the suite was interrupted"
        if why:
            skip(scenario.name, f"not run: {why}")
            continue
        watcher.begins(number, scenario)
        view = apart.run(scenario, stop, watcher.record, confirmed=confirmed)
        if view.verdict == "unsupported":
            skip(scenario.name, view.reason)
            continue
        views.append(view)
        watcher.ended(view)
        why = _why_stop(suite, view, stop)
    found = {apart.status(view) for view in views} | ({Exit.INTERRUPTED} if stop.number else set())
    return Outcome(views, skipped, worst(found, skipped=bool(skipped)))


def worst(found: Collection[Exit], *, skipped: bool = False) -> Exit:
    """One exit status for several; if there is none, for all were ``skipped``, that says so."""
    if not found and skipped:
        return Exit.UNSUPPORTED
    return min(found, key=_WORST_FIRST.index, default=Exit.OK)


def _why_stop(suite: Suite, view: View, stop: Stop) -> str:
    status = apart.status(view)
    if status is Exit.NOT_RESTORED:
        return f"{view.scenario} was not put back"
    if status is Exit.INTERRUPTED or stop.number:
        return "the suite was interrupted"
    return f"{view.scenario}: {view.verdict}" if status and suite.on_failure == "stop" else ""
