"""What can be measured, and comparisons such as ``> 800ms`` of it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import msgspec

from chaosd.document import near
from chaosd.errors import ChaosdError
from chaosd.units import Duration, Percent, Size

_SPLIT = re.compile(r"([^<>=!]*)([<>=!]+)(.*)\Z", re.DOTALL)
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
OPERATORS = tuple(_HOLDS)
"""How a figure can be compared with its limit."""
_CONDITION = "such as load1 < 8"


class Unit(msgspec.Struct, frozen=True):
    """How a limit is read from text, and how a figure is shown."""

    example: str
    parse: Callable[[str], float]
    show: Callable[[float], str]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ChaosdError(f"{text!r} is not a number", hint="such as 100")
    return number


SHARE = Unit("50%", lambda text: Percent.parse(text).fraction, lambda value: f"{value * 100:.4g}%")
"""0 to 1, written as percent."""
SECONDS = Unit(
    "800ms", lambda text: float(Duration.parse(text)), lambda value: str(Duration(float(f"{value:.3g}")))
)
BYTES = Unit("2GiB", lambda text: float(Size.parse(text)), lambda value: str(Size(value)))
NUMBER = Unit("100", _number, lambda value: f"{value:g}")
"""Any finite number."""


class Figure(msgspec.Struct, frozen=True):
    """Something that is measured: in which unit, and what it means."""

    unit: Unit
    about: str


class Comparison(msgspec.Struct, frozen=True):
    """An operator and a limit, in the unit of what is compared."""

    op: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether it is so."""
        return _HOLDS[self.op](value, self.limit)


def split(text: str, example: str) -> tuple[str, str, str]:
    """What stands left of a comparison, its operator, and what stands right of it.

    Raises:
        ChaosdError: there is no comparison, or one that nobody knows; ``example`` is in the hint.
    """
    match = _SPLIT.match(text)
    if match is None:
        raise ChaosdError(f"no comparison in {text!r}", hint=example)
    left, op, right = (part.strip() for part in match.groups())
    if op not in _HOLDS:
        raise ChaosdError(f"unknown comparison {op!r} in {text!r}", hint=f"one of {' '.join(_HOLDS)}")
    return left, op, right


class Expectation(str):
    """What a number is to be, such as ``< 0.05``; empty when it may be any."""

    what: ClassVar[str] = "comparison"
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one.

        Raises:
            ChaosdError: it is none.
        """
        read = cls(text)
        read.wrong(0)
        return read

    def wrong(self, value: float) -> str:
        """What is wrong with a number in a few words; empty when it is as expected."""
        if not self:
            return ""
        left, comparison = _read(self, NUMBER, "such as < 0.05")
        if left:
            raise ChaosdError(f"{left!r} stands before the comparison", hint="such as < 0.05")
        return "" if comparison.holds(value) else f"{value:g}, not {self}"


class Condition(str):
    """What a figure of a check is to be, such as ``load1 < 8``."""

    what: ClassVar[str] = "condition"
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one; whether there is such a figure is for its check to say (``problem``).

        Raises:
            ChaosdError: it is none.
        """
        read = cls(text)
        split(read, _CONDITION)
        return read

    @property
    def figure(self) -> str:
        """What it is about."""
        return split(self, _CONDITION)[0]

    def problem(self, known: Mapping[str, Figure]) -> str:
        """Why this cannot be asked of a check that gives these figures; empty when it can."""
        try:
            self._against(known)
        except ChaosdError as error:
            return str(error)
        return ""

    def wrong(self, known: Mapping[str, Figure], values: Mapping[str, float]) -> str:
        """What is wrong in a few words; empty when it is so. A figure that is not there is wrong."""
        name, comparison = self._against(known)
        if name not in values:
            return f"{name} cannot be measured here"
        value = values[name]
        return "" if comparison.holds(value) else f"{name} is {known[name].unit.show(value)}, not {self}"

    def _against(self, known: Mapping[str, Figure]) -> tuple[str, Comparison]:
        if self.figure not in known:
            raise ChaosdError(f"unknown figure {self.figure!r}", hint=near(self.figure, known))
        return _read(self, known[self.figure].unit, _CONDITION)


def _read(text: str, unit: Unit, example: str) -> tuple[str, Comparison]:
    left, op, right = split(text, example)
    return left, Comparison(op, unit.parse(right))
