"""The monkey's choices: pure functions of its configuration, seed, tick and clock, and of what it saw."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from chaosd import document
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.orchestrate import entry
from chaosd.orchestrate.eligible import Candidate, Containers, Targets
from chaosd.orchestrate.entry import Entry
from chaosd.orchestrate.words import Days, Hours, Zone
from chaosd.units import Duration, Percent

_SHORTEST = Duration(1)
_FORTNIGHT, _LOOK_AHEAD = 14 * 24 * 3600.0, 20


class _Fields(msgspec.Struct, frozen=True, kw_only=True):
    hours: Hours = Hours("09:00-17:00")
    days: Days = Days("mon-fri")
    timezone: Zone = Zone("")
    every: Duration = Duration(3600)
    probability: Percent = Percent(5)
    exclude: list[str] = []
    cooldown: Duration = Duration(4 * 3600)
    seed: int | None = None


class _Document(_Fields, frozen=True, kw_only=True):
    targets: Any
    scenarios: list[Any] = []
    categories: list[str] = []
    set: dict[str, Any] = {}


class Config(_Fields, frozen=True, kw_only=True):
    """When the monkey may act, how often it does, with which scenarios and on what.

    Ticks are ``every`` seconds apart and counted from the epoch; at each one it acts with
    ``probability``. A target is left in peace for ``cooldown`` after it was chosen.
    """

    entries: tuple[Entry, ...]
    targets: Targets

    def tick(self, at: float) -> int:
        """The number of the tick at or before a moment, in seconds since the epoch."""
        return int(at // self.every)

    def begins(self, tick: int) -> float:
        """When a tick is."""
        return tick * float(self.every)

    def open(self, at: float) -> bool:
        """Whether a moment is within the hours of the days."""
        return self.hours.cover(self.timezone.local(at), self.days.numbers())

    def ever_open(self, since: float) -> bool:
        """Whether any of the coming ticks is, over two weeks at least."""
        first, count = self.tick(since) + 1, max(_LOOK_AHEAD, math.ceil(_FORTNIGHT / self.every))
        one_a_minute = max(int(60 // self.every), 1)  # hours are given in minutes
        return any(self.open(self.begins(tick)) for tick in range(first, first + count, one_a_minute))


class Memory(msgspec.Struct):
    """What must outlive a restart: the last tick that was dealt with, and when each target was chosen.

    The latter is the moment of the tick. ``seed`` is the one drawn when the configuration has none.
    """

    seed: int
    last_tick: int = -1
    chosen: dict[str, float] = {}


class Decision(msgspec.Struct, frozen=True):
    """What is done at a tick, or why nothing is."""

    tick: int
    at: float
    why: str = ""
    entry: Entry | None = None
    target: str = ""


Can = Callable[[Entry, str], str]
"""Why a scenario cannot be run on a target here; nothing if it can."""


Find = Callable[[], tuple[Sequence[Candidate], str]]
"""The eligible targets, and a word on what could not be looked at."""


def decide(config: Config, tick: int, at: float, memory: Memory, find: Find, can: Can) -> Decision:
    """What to do at a tick.

    Args:
        config: the configuration.
        tick: the number of the tick.
        at: the moment at which it would be done, in seconds since the epoch.
        memory: of the ticks before.
        find: asked for the eligible targets, if it comes to that.
        can: tells why a scenario cannot be run on a target.
    """
    if tick <= memory.last_tick:
        return Decision(tick, at, "dealt with already")
    if not config.open(at):
        return Decision(tick, at, "outside hours")
    if number(memory.seed, tick, "draw") >= config.probability.fraction:
        return Decision(tick, at, "not drawn")
    found, missing = find()
    if not found:
        return Decision(tick, at, "no eligible target" + (f": {missing}" if missing else ""))
    since = config.begins(tick) - config.cooldown
    words = [each.word for each in found if memory.chosen.get(each.word, -math.inf) <= since]
    if not words:
        return Decision(tick, at, "every eligible target is cooling down")
    return _choose(config, Decision(tick, at), memory.seed, words, can)


def _choose(config: Config, at: Decision, seed: int, words: Sequence[str], can: Can) -> Decision:
    reason, tick = "", at.tick
    # each has a number of its own, so that one that comes or goes does not change the order of the rest
    targets = sorted(words, key=lambda word: number(seed, tick, f"target {word}"))
    for index in sorted(range(len(config.entries)), key=lambda i: number(seed, tick, f"scenario {i}")):
        for word in targets:
            why = can(config.entries[index], word)
            if not why:
                return replace(at, entry=config.entries[index], target=word)
            reason = reason or why
    return replace(at, why=f"nothing can be done: {reason}")


def number(seed: int, tick: int, word: str) -> float:
    """A number from 0 to 1 that these three alone decide, evenly spread."""
    digest = hashlib.blake2b(f"{seed} {tick} {word}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def load(path: Path) -> Config:
    """Read a configuration (``ChaosdError`` with everything that is wrong, with file and line)."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), path.parent)


def parse(text: str, name: str, folder: Path) -> Config:
    """The same from its text; scenarios' files are looked for in ``folder``."""
    data, lines = document.load(text, name)
    if not isinstance(data, dict):
        raise ChaosdError(f"{name}: not a configuration", hint="a mapping with scenarios and targets")
    problems = Problems(name, lines)
    values = document.read(_Document, data, (), problems)
    if values.get("every", _SHORTEST) < _SHORTEST:
        problems.add(("every",), f"{values['every']} is too short", f"at least {_SHORTEST}")
    entries = _entries(values, folder, problems)
    targets = _targets(values.pop("targets", {}), problems)
    problems.raise_any()
    for key in ("scenarios", "categories"):
        values.pop(key, None)
    config = Config(entries=tuple(entry.fit(entries, values.pop("set", {}))), targets=targets, **values)
    if not config.ever_open(time.time()):
        said = f"a tick comes every {config.every}, counted from midnight UTC, and never within the hours"
        problems.add(("every",), said, "such as every: 1h")
    problems.raise_any()
    return config


def _entries(values: dict[str, Any], folder: Path, problems: Problems) -> list[Entry]:
    found: list[Entry] = []
    for i, category in enumerate(values.get("categories", [])):
        try:
            found += [each for each in entry.of_category(category) if not _unfit(each, named=False)]
        except ChaosdError as error:
            problems.add(("categories", i), error.message, error.hint)
    for i, item in enumerate(values.get("scenarios", [])):
        each = entry.read(item, ("scenarios", i), folder, problems, {})
        if each is not None and (why := _unfit(each, named=True)):
            problems.add(("scenarios", i), why)
        found += [each] if each is not None else []
    if not found:
        problems.add((), "names no scenario", "under scenarios or categories")
    return found


def _unfit(each: Entry, *, named: bool) -> str:
    """Why a scenario is nothing for the monkey: it must reach what is eligible, and nothing else."""
    try:
        scenario = each.load()
    except ChaosdError:
        return ""  # what is wrong with it is noted where it is read
    if each.target or any(step.target for step in scenario.faults):
        return f"{each.scenario} has targets of its own, and the monkey chooses them"
    if not named and any(step.fault.irreversible for step in scenario.faults):
        return "what cannot be undone must be asked for by name"
    return ""


def _targets(data: Any, problems: Problems) -> Targets:
    if isinstance(data, dict) and data.get("containers") is not None:
        path = ("targets", "containers")
        built = document.build(Containers, data["containers"], path, problems)
        data = data | {"containers": built}
    found = document.build(Targets, data, ("targets",), problems)
    if found is not None and found == Targets():
        problems.add(("targets",), "names nothing", "such as {units: ['web-*.service']}")
    return found or Targets()
