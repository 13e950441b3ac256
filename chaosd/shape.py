"""How strong a fault is over time: from 0, no effect, to 1, as the scenario has it.

A shape is a pure function of the time since its fault began, of how long the fault lasts, and of a
seed. Strength goes with what the fault has a strength of: a delay gets longer, a limit tighter, a
chance greater. A fault that is either there or not is there whenever the strength is over 0.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from chaosd.units import Duration, Percent


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One course over time; its fields are the YAML keys."""

    name: ClassVar[str] = ""
    gradual: ClassVar[bool] = False  # it has strengths between 0 and 1

    def check(self) -> list[str]:
        """What is wrong with the fields, one line each."""
        return []

    def strength(self, at: float, lasts: float, seed: int) -> float:
        """How strong it is.

        Args:
            at: seconds since the fault began, from 0 to ``lasts``.
            lasts: seconds that the fault lasts.
            seed: of the random choices.

        Returns:
            0 to 1.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        said = ((field, getattr(self, field)) for field in self.__struct_fields__)
        return " ".join([self.name, *(f"{field} {_say(value)}" for field, value in said if value)])


def _say(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


class Constant(Shape, frozen=True, kw_only=True):
    """All the time as the scenario has it."""

    name: ClassVar[str] = "constant"

    def strength(self, at: float, lasts: float, seed: int) -> float:
        """Always 1."""
        return 1.0


class Ramp(Shape, frozen=True, kw_only=True):
    """Grows evenly from nothing to full, stays there, and may fade at the end."""

    name: ClassVar[str] = "ramp"
    gradual: ClassVar[bool] = True

    up: Annotated[Duration, Meta(description="time to full strength; all of it when 0")] = Duration(0)
    down: Annotated[Duration, Meta(description="time of fading at the end")] = Duration(0)

    def strength(self, at: float, lasts: float, seed: int) -> float:
        """The lower of the rising and the falling line."""
        up = self.up or max(lasts - self.down, 0.0)
        rising = at / up if up else 1.0
        falling = (lasts - at) / self.down if self.down else 1.0
        return min(max(min(rising, falling), 0.0), 1.0)


class Steps(Shape, frozen=True, kw_only=True):
    """One strength after the other; the last one stays."""

    name: ClassVar[str] = "steps"
    gradual: ClassVar[bool] = True

    levels: Annotated[list[Percent], Meta(description="such as [10%, 50%, 100%]", min_length=1)]
    every: Annotated[Duration, Meta(description="time of each; equal parts of all when 0")] = Duration(0)

    def strength(self, at: float, lasts: float, seed: int) -> float:
        """The level whose turn it is."""
        every = self.every or lasts / len(self.levels)
        turn = int(at / every) if every else 0
        return self.levels[min(turn, len(self.levels) - 1)].fraction


class Pulse(Shape, frozen=True, kw_only=True):
    """There and gone, again and again, beginning with there."""

    name: ClassVar[str] = "pulse"

    on: Annotated[Duration, Meta(description="how long it is there")]
    off: Annotated[Duration, Meta(description="and how long it is gone")]

    def check(self) -> list[str]:
        """Both must be some time, but not so short that nobody could follow."""
        return _too_short(self.on, self.off)

    def strength(self, at: float, lasts: float, seed: int) -> float:
        """1 in the first part of each turn."""
        return 1.0 if at % (self.on + self.off) < self.on else 0.0


class Random(Shape, frozen=True, kw_only=True):
    """There and gone for random times around these means, the same for the same seed."""

    name: ClassVar[str] = "random"

    on: Annotated[Duration, Meta(description="mean time that it is there")]
    off: Annotated[Duration, Meta(description="mean time that it is gone")]

    def check(self) -> list[str]:
        """As for a pulse."""
        return _too_short(self.on, self.off)

    def strength(self, at: float, lasts: float, seed: int) -> float:
        """1 in every other one of the random stretches; the first of them is there."""
        turns = _stretches(float(self.on), float(self.off), lasts, seed)
        return 1.0 if sum(1 for end in turns if end <= at) % 2 == 0 else 0.0


_SHORTEST = 0.2


def _too_short(*times: Duration) -> list[str]:
    return [f"{time} is shorter than {Duration(_SHORTEST)}" for time in times if time < _SHORTEST]


@lru_cache(maxsize=64)
def _stretches(on: float, off: float, lasts: float, seed: int) -> tuple[float, ...]:
    """The ends of the stretches: exponential times, none shorter than an engine can follow."""
    draw, end = random.Random(seed).random, 0.0
    ends: list[float] = []
    while end < lasts:
        mean = off if len(ends) % 2 else on
        end += max(-mean * math.log(1 - draw()), _SHORTEST)
        ends.append(end)
    return tuple(ends)


SHAPES: dict[str, type[Shape]] = {kind.name: kind for kind in (Constant, Ramp, Steps, Pulse, Random)}
"""By the name that a scenario gives them."""
