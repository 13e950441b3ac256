"""Quantities with units, parsed once at the edge; inside there are only plain numbers.

Each type knows how to read what a user writes (``parse``) and how to show itself (``str``).
"""

from __future__ import annotations

import math
import re
from typing import ClassVar, Self

from chaosd.errors import ChaosdError

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z%/]*)\s*\Z")


def _plain(number: float) -> str:
    # with no exponent, which no quantity is read with
    text = f"{number:.6g}"
    return f"{float(text):.15f}".rstrip("0").rstrip(".") if "e" in text else text


class Quantity(float):
    """A non-negative number of ``unit``, written as a number and one of ``factors``."""

    what: ClassVar[str]
    example: ClassVar[str]
    factors: ClassVar[dict[str, float]]
    limit: ClassVar[float] = float("inf")

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Read a quantity such as ``100ms``.

        Raises:
            ChaosdError: not a number, no such unit, negative or over the limit.
        """
        match = _NUMBER.match(f"{text:f}" if isinstance(text, float) else str(text))
        if match is None or isinstance(text, bool):
            raise ChaosdError(f"{text!r} is not a {cls.what}", hint=f"such as {cls.example}")
        number, unit = match.groups()
        if unit not in cls.factors:
            if not unit and float(number) == 0:
                return cls(0)
            known = ", ".join(filter(None, cls.factors))
            said = f"unit {unit!r} of {text!r} is unknown" if unit else f"{text!r} has no unit"
            raise ChaosdError(said, hint=f"a {cls.what} takes one of {known}, such as {cls.example}")
        value = float(number) * cls.factors[unit]
        if value > cls.limit or not math.isfinite(value):
            most = cls(cls.limit) if math.isfinite(cls.limit) else "any number"
            raise ChaosdError(f"{text!r} is over {most}", hint=f"such as {cls.example}")
        return cls(value)

    def __str__(self) -> str:
        for unit, factor in sorted(self.factors.items(), key=lambda item: -item[1]):
            if self >= factor:
                return f"{_plain(self / factor)}{unit}"
        smallest = min(self.factors, key=lambda unit: self.factors[unit])
        return f"{_plain(self / self.factors[smallest])}{smallest}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({float(self)!r})"


class Duration(Quantity):
    """Seconds."""

    what = "duration"
    example = "100ms"
    factors: ClassVar = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Percent(Quantity):
    """0 to 100; a bare number is taken as percent."""

    what = "percentage"
    example = "10%"
    factors: ClassVar = {"%": 1.0, "": 1.0}
    limit = 100.0

    @property
    def fraction(self) -> float:
        """The same as a number from 0 to 1."""
        return float(self) / 100

    def __str__(self) -> str:
        return f"{float(self):g}%"


class Rate(Quantity):
    """Bits per second."""

    what = "rate"
    example = "10mbit"
    factors: ClassVar = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


class Size(Quantity):
    """Bytes."""

    what = "size"
    example = "64MiB"
    factors: ClassVar = {
        "B": 1.0,
        "kB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
    }
