"""A scenario with what is set for it: an item of a suite, of the monkey or of a schedule."""

from __future__ import annotations

import os
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

    def own(self) -> dict[str, Any]:
        """What is set besides parameters, as users write it."""
        duration = str(self.duration) if self.duration is not None else None
        given = {"target": self.target or None, "duration": duration, "seed": self.seed}
        return {key: value for key, value in given.items() if value is not None}

    def overrides(self) -> dict[str, Any]:
        """The same and the parameters, as ``scenario.load`` takes them."""
        return self.set | self.own()


class Entry(Fields, frozen=True, kw_only=True):
    """A scenario by its name or file, with what is set for it.

    ``text`` is what the file says where it cannot be read here.
    """

    scenario: str
    text: str | None = None

    def load(self) -> Scenario:
        """The scenario, checked (``ChaosdError`` with all that is wrong)."""
        text, name = self._read()
        return scenario.parse(text, name, self.overrides())

    def parameters(self) -> set[str]:
        """The names that its scenario takes values for."""
        data, _ = document.load(*self._read())
        found = data.get("parameters") if isinstance(data, dict) else None
        return set(found) if isinstance(found, dict) else set()

    def told(self) -> Entry:
        """The same for another process, which may run elsewhere and must not open a file for this one."""
        if self.scenario in scenario.library():
            return self
        text, name = self._read()
        return msgspec.structs.replace(self, scenario=os.path.abspath(name), text=text)

    def _read(self) -> tuple[str, str]:
        return scenario.read(self.scenario) if self.text is None else (self.text, self.scenario)


def read(
    item: Any, path: document.Path, folder: Path, problems: Problems, files: Mapping[str, str]
) -> Entry | None:
    """An entry as it stands in a list: a name or file, alone or with its fields under it.

    Args:
        item: the name, or a mapping of the name to the fields.
        path: where it stands in the document.
        folder: where files are looked for.
        problems: takes every mistake.
        files: what some files say, by their names; they are not looked for.
    """
    named = document.named(item, path, problems, "scenario")
    if named is None:
        return None
    fields = document.build(Fields, named[1], (*path, named[0]), problems)
    if fields is None:
        return None
    text = files.get(named[0])
    word = locate(named[0], folder) if text is None else named[0]
    entry = Entry(scenario=word, text=text, **msgspec.structs.asdict(fields))
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
