"""The monkey at work: tick by tick, with what it has seen and done on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from chaosd import events, plan
from chaosd.errors import ChaosdError, Exit
from chaosd.orchestrate import apart, eligible, state
from chaosd.orchestrate.entry import Entry
from chaosd.orchestrate.monkey import Can, Config, Decision, Memory, decide, number
from chaosd.orchestrate.waiting import Stop
from chaosd.places import state_dir
from chaosd.report.fold import View
from chaosd.scenario import Scenario

Tell = Callable[[Decision, View | None], None]


class Monkey:
    """Acts by a configuration, one run at a time.

    Args:
        config: the configuration.
        name: under which its memory is kept.
        tell: is given what was decided, and the run that came of it, if any.
    """

    def __init__(self, config: Config, name: str, tell: Tell) -> None:
        self.config = config
        self.place: Path = state_dir() / "monkey" / f"{name}.json"
        self._tell = tell
        self.memory = state.load(self.place, Memory) or Memory(int.from_bytes(os.urandom(4)))
        if config.seed is not None:
            self.memory.seed = config.seed

    def rehearse(self, first: int, count: int) -> Iterator[Decision]:
        """What it would do at the next ticks, if the host stayed as it is; remembers nothing."""
        memory = Memory(self.memory.seed, self.memory.last_tick, dict(self.memory.chosen))
        find, can = cache(self._find), _remembered(_cannot)  # the host is looked at once
        for tick in range(first, first + count):
            decision = decide(self.config, tick, self.config.begins(tick), memory, find, can)
            if decision.target:
                memory.chosen[decision.target] = self.config.begins(tick)
            yield decision

    def choose(self, tick: int) -> tuple[Decision, Scenario | None]:
        """Decide what is to be done at a tick, and what is to be run, if anything.

        The choice is on disk when this returns: what dies in the run does not run again.
        """
        decision = decide(self.config, tick, time.time(), self.memory, self._find, _cannot)
        events.log(events.of_monkey(row(self.config, decision)))
        self.memory.last_tick = max(tick, self.memory.last_tick)
        if decision.entry is None:
            state.save(self.place, self.memory)
            return decision, None
        now = self.config.begins(tick)
        kept = {word: at for word, at in self.memory.chosen.items() if at > now - self.config.cooldown}
        self.memory.chosen = kept | {decision.target: now}
        state.save(self.place, self.memory)
        return decision, aimed(decision.entry, decision.target, _seed(self.memory.seed, tick))

    def step(self, tick: int, stop: Stop) -> Exit:
        """Do what is to be done at a tick; the exit status of the run, or 0."""
        decision, scenario = self.choose(tick)
        self._tell(decision, None)
        if scenario is None:
            return Exit.OK
        view = apart.run(scenario, stop)
        self._tell(decision, view)
        return apart.status(view)

    def run(self, stop: Stop) -> Exit:
        """Go on from the next tick until a signal comes, or the host could not be put back.

        Ticks that passed while nobody was there, or a run was going on, are let go.
        """
        tick = self.config.tick(time.time()) + 1
        while not stop.wait_until(self.config.begins(tick)):
            now = self.config.tick(time.time())
            if now < tick:
                continue
            status = self.step(now, stop)
            if status is Exit.NOT_RESTORED or stop.number:
                return status
            tick = now + 1
        return Exit.OK

    def _find(self) -> tuple[list[eligible.Candidate], str]:
        found, problems = eligible.find(self.config.targets, self.config.exclude)
        return found, "; ".join(problems)


def row(config: Config, decision: Decision) -> dict[str, Any]:
    """A decision as data."""
    return {
        "tick": decision.tick,
        "at": config.timezone.local(decision.at).isoformat(timespec="seconds"),
        "why_not": decision.why,
        "scenario": decision.entry.scenario if decision.entry else "",
        "target": decision.target,
    }


def aimed(entry: Entry, target: str, seed: int) -> Scenario:
    """The scenario on this target; it reaches one service at most, whatever it declares."""
    scenario = replace(entry, target=target, seed=entry.seed if entry.seed is not None else seed).load()
    narrow = scenario.blast_radius == "single-request"
    return scenario if narrow else replace(scenario, blast_radius="single-service")


def _cannot(entry: Entry, word: str) -> str:
    try:
        plan.make(aimed(entry, word, 0))
    except ChaosdError as error:
        return str(error)
    return ""


def _remembered(can: Can) -> Can:
    known: dict[tuple[int, str], str] = {}

    def remembered(entry: Entry, word: str) -> str:
        key = id(entry), word
        if key not in known:
            known[key] = can(entry, word)
        return known[key]

    return remembered


def _seed(seed: int, tick: int) -> int:
    return int(number(seed, tick, "run") * 2**32)
