"""Conditions such as ``booking.p95 > 800ms for 10s`` that end a run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection
from typing import Protocol, Self

import msgspec

from chaosd.checks.base import now
from chaosd.checks.stats import Stats
from chaosd.errors import ChaosdError
from chaosd.units import Duration, Percent

WINDOW = 5.0
"""Seconds a figure is taken over."""
ENOUGH = 5
"""Samples without which nothing is judged; the window reaches back as far as it takes to have them."""

_EXAMPLE = "such as error_rate > 50% or api.p95 > 800ms for 10s"
_SPLIT = re.compile(r"([^<>=!]*)([<>=!]+)(.*)\Z", re.DOTALL)
_FOR = re.compile(r"(.*?)\s+for\s+(.*)\Z", re.DOTALL)
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class _Metric(msgspec.Struct, frozen=True):
    """How a limit is read from text, how a figure is shown, how many samples it takes."""

    parse: Callable[[str], float]
    show: Callable[[float], str]
    enough: int = ENOUGH


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ChaosdError(f"{text!r} is not a number", hint="such as 100")
    return number


_SHARE = _Metric(lambda text: Percent.parse(text).fraction, lambda value: f"{value * 100:.4g}%")
_TIME = _Metric(lambda text: float(Duration.parse(text)), lambda value: str(Duration(float(f"{value:.3g}"))))
_PLAIN = _Metric(_number, lambda value: f"{value:g}", enough=1)

METRICS = {
    "error_rate": _SHARE,
    "availability": _SHARE,
    "p50": _TIME,
    "p95": _TIME,
    "p99": _TIME,
    "max": _TIME,
    "value": _PLAIN,
}
"""What a threshold may be about: fields of ``Stats``."""


class Threshold(msgspec.Struct, frozen=True):
    """``[CHECK.]METRIC OP LIMIT [for DURATION]``, read and checked.

    ``check`` is empty for all checks taken together. ``limit`` is a share from 0 to 1, seconds, or
    a plain number, as the metric has it. ``hold`` is for how many seconds it must be so without a break.
    """

    check: str
    metric: str
    op: str
    limit: float
    hold: Duration = Duration(0)

    @classmethod
    def parse(cls, text: str, names: Collection[str] | None = None) -> Self:
        """Read a threshold.

        Args:
            text: what the user wrote.
            names: the checks there are; None when that is not known yet.

        Raises:
            ChaosdError: what is wrong with it in one line, and the words that are allowed.
        """
        match = _SPLIT.match(text)
        if match is None:
            raise ChaosdError(f"no comparison in {text!r}", hint=_EXAMPLE)
        left, op, right = (part.strip() for part in match.groups())
        if op not in _HOLDS:
            raise ChaosdError(f"unknown comparison {op!r} in {text!r}", hint=f"one of {' '.join(_HOLDS)}")
        check, metric = _subject(left, names)
        held = _FOR.match(right)
        limit = METRICS[metric].parse(held[1] if held else right)
        return cls(check, metric, op, limit, Duration.parse(held[2].strip()) if held else Duration(0))

    def __str__(self) -> str:
        subject = f"{self.check}.{self.metric}" if self.check else self.metric
        held = f" for {self.hold}" if self.hold else ""
        return f"{subject} {self.op} {self.show(self.limit)}{held}"

    def show(self, value: float) -> str:
        """A value of the figure with its unit."""
        return METRICS[self.metric].show(value)

    @property
    def samples(self) -> int:
        """How many samples the figure is taken over at least."""
        return METRICS[self.metric].enough

    def figure(self, stats: Stats) -> float | None:
        """The figure this is about; None when there are too few samples to tell."""
        if stats.count < self.samples:
            return None
        value: float | None = getattr(stats, self.metric)
        return value

    def crossed(self, stats: Stats) -> bool:
        """Whether the figure is beyond the limit now; a figure that is not there never is."""
        value = self.figure(stats)
        return value is not None and _HOLDS[self.op](value, self.limit)


def _subject(text: str, names: Collection[str] | None) -> tuple[str, str]:
    check, _, metric = text.rpartition(".")
    if metric not in METRICS:
        raise ChaosdError(f"unknown metric {metric!r}", hint=f"one of {', '.join(METRICS)}")
    if check and names is not None and check not in names:
        known = f"one of {', '.join(sorted(names))}" if names else "the scenario has no checks"
        raise ChaosdError(f"unknown check {check!r}", hint=known)
    if text.startswith("."):
        raise ChaosdError(f"no name before the dot in {text!r}", hint=_EXAMPLE)
    return check, metric


DEFAULTS = (Threshold.parse("error_rate > 50%"), Threshold.parse("availability < 50%"))
"""What ends a run that says nothing else."""


class Figures(Protocol):
    """Where figures come from; a ``Sampler`` is one."""

    def stats(self, name: str, window: float, *, since: float = 0.0, at_least: int = 0) -> Stats:
        """The figures of one check, or of all when ``name`` is empty."""


class Watch:
    """Looks at one threshold again and again.

    Args:
        threshold: what to look at.
        clock: seconds, for ``hold``.
    """

    def __init__(self, threshold: Threshold, clock: Callable[[], float] = now) -> None:
        self.threshold = threshold
        self._clock = clock
        self._since: float | None = None

    def breached(self, figures: Figures, since: float = 0.0) -> str:
        """What is beyond the limit, and has been for long enough, in one line; empty when nothing is.

        Probes that began before ``since`` do not count.
        """
        threshold = self.threshold
        stats = figures.stats(threshold.check, WINDOW, since=since, at_least=threshold.samples)
        if not threshold.crossed(stats):
            self._since = None
            return ""
        at = self._clock()
        self._since = at if self._since is None else self._since
        if at - self._since < threshold.hold:
            return ""
        figure = threshold.figure(stats)
        assert figure is not None
        why = f", last failure: {stats.failure}" if stats.failure else ""
        return f"{threshold}: it is {threshold.show(figure)} (samples: {stats.count}{why})"
