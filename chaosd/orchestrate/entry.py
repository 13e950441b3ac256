"""A scenario with what is set for it: an item of a suite, of the monkey or of a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaosd import document, scenario
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.scenario import Scenario
from chaosd.units import Duration


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What may be set for a scenario; ``set`` has its parameters."""

    target: str = ""
    set: dict[str, Any] = {}
    duration: Duration | None = None
    seed: int | None = None

    def overrides(self) -> dict[str, Any]:
        """The same as ``scenario.load`` takes it."""
        duration = str(self.duration) if self.duration is not None else None
        given = {"target": self.target or None, "duration": duration, "seed": self.seed}
        return self.set | {key: value for key, value in given.items() if value is not None}


class Entry(Fields, frozen=True, kw_only=True):
    """A scenario by its name or file, with what is set for it."""

    scenario: str

    def load(self) -> Scenario:
        """The scenario, checked (``ChaosdError`` with all that is wrong)."""
        return scenario.load(self.scenario, self.overrides())

    def parameters(self) -> set[str]:
        """The names that its scenario takes values for."""
        path = scenario.find(self.scenario)
        data, _ = document.load(path.read_text("utf-8"), str(path))
        found = data.get("parameters") if isinstance(data, dict) else None
        return set(found) if isinstance(found, dict) else set()


def read(item: Any, path: document.Path, folder: Path, problems: Problems) -> Entry | None:
    """An entry as it stands in a list: a name or file, alone or with its fields under it.

    Args:
        item: the name, or a mapping of the name to the fields.
        path: where it stands in the document.
        folder: where files are looked for.
        problems: takes every mistake.
    """
    named = document.named(item, path, problems, "scenario")
    if named is None:
        return None
    fields = document.build(Fields, named[1], (*path, named[0]), problems)
    if fields is None:
        return None
    entry = Entry(scenario=locate(named[0], folder), **msgspec.structs.asdict(fields))
    check(entry, path, problems)
    return entry


def locate(word: str, folder: Path) -> str:
    """The word for a scenario, with files looked for in a folder; names of the library stay names."""
    place = folder / word
    return str(place) if word not in scenario.library() and place.is_file() else word


def check(entry: Entry, path: document.Path, problems: Problems) -> None:
    """Note what is wrong with the scenario of an entry, or with what is set for it."""
    try:
        entry.load()
    except ChaosdError as error:
        for line in error.message.splitlines():
            problems.add(path, line, error.hint)


def aimless(loaded: Scenario) -> bool:
    """Whether a fault of a scenario has nothing that it is aimed at."""
    return any(not (step.target or loaded.target) for step in loaded.faults)


def fit(entries: Iterable[Entry], settings: Mapping[str, Any]) -> list[Entry]:
    """The entries with these values for the parameters that they have.

    Raises:
        ChaosdError: none of them has such a parameter.
    """
    known = [(entry, entry.parameters()) for entry in entries]
    every = {name for _, names in known for name in names}
    for key in settings.keys() - every:
        raise ChaosdError(f"no chosen scenario has a parameter {key!r}", hint=document.near(key, every))
    return [
        msgspec.structs.replace(entry, set=entry.set | {k: v for k, v in settings.items() if k in names})
        for entry, names in known
    ]


def of_category(category: str) -> list[Entry]:
    """The scenarios that come with chaosd of a category, or of ``all``, less those for ``chaosd exec``.

    Raises:
        ChaosdError: there is no such category.
    """
    found: dict[str, list[Entry]] = {}
    for name, path in scenario.library().items():
        for key in ("all", path.parent.name):
            found.setdefault(key, []).append(Entry(scenario=name))
    if category not in found:
        raise ChaosdError(f"there is no category {category!r}", hint=document.near(category, found))
    return [each for each in found[category] if not _for_exec(each)]


def _for_exec(each: Entry) -> bool:
    """Whether a fault of a scenario is only for a program that chaosd starts."""
    return any(all(way.launched for way in step.fault.mechanisms) for step in each.load().faults)
