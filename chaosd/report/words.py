"""Figures as people read them; the same words in every form of a report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import floor

NOTHING = "-"
"""What stands where there is no figure."""


def seconds(value: float | None) -> str:
    """A time in seconds, such as ``1.6 ms``, ``2.35 s`` or ``3 min 20 s``."""
    if value is None:
        return NOTHING
    if abs(value) < 1:
        return f"{value * 1000:.1f} ms"
    if abs(value) < 120:
        return f"{value:.2f} s" if abs(value) < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def share(value: float | None) -> str:
    """A share from 0 to 1 as a percentage; what is not quite all or nothing is not rounded to it."""
    if value is None:
        return NOTHING
    text = f"{value:.1%}"
    if text == "100.0%" and value < 1:
        return ">99.9%"
    return "<0.1%" if text == "0.0%" and value > 0 else text


def rate(value: float | None) -> str:
    """Events a second."""
    return NOTHING if value is None else f"{value:,.1f}/s"


def count(value: float | None) -> str:
    """A number of events."""
    return NOTHING if value is None else f"{value:,.0f}"


def several(number: int, what: str) -> str:
    """A number of things, such as ``1 edit``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def followed(counts: Mapping[str, int]) -> list[str]:
    """How often targets were started again and followed, a line for each fault on one."""
    return [
        f"{name}: followed to where it was started again, {several(n, 'time')}" for name, n in counts.items()
    ]


def moment(unix: float) -> str:
    """A moment in UTC, to the second."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def points(value: float | None) -> str:
    """Points of a score, rounded down, so that only a whole 100 is one and parts add up to it."""
    return NOTHING if value is None else f"{floor(value * 10 + 1e-6) / 10:g}"


def difference(before: float | None, after: float | None) -> str:
    """How much longer something took, in seconds, with its sign."""
    if before is None or after is None:
        return ""
    more = after - before
    return f"{'+' if more >= 0 else '-'}{seconds(abs(more))}"
