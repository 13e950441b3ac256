"""Conditions such as ``booking.p95 > 800ms for 10s`` that end a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Protocol, Self

import msgspec

from chaosd.checks.base import Check, now, registry
from chaosd.checks.figures import SECONDS, SHARE, Comparison, Figure, split
from chaosd.checks.host import Host
from chaosd.checks.stats import Stats
from chaosd.document import near
from chaosd.errors import ChaosdError
from chaosd.units import Duration

WINDOW = 5.0
"""Seconds a figure is taken over."""
ENOUGH = 5
"""Samples that figures over several of them take; the window reaches back as far as it takes to have them."""
HOST = Host.kind
"""The name of the check that is there although no scenario declares it, for figures of the host."""

_EXAMPLE = "such as error_rate > 50% or api.p95 > 800ms for 10s"
_FOR = re.compile(r"(.*?)\s+for\s+(.*)\Z", re.DOTALL)

METRICS = {
    "error_rate": Figure(SHARE, "the share of probes that failed"),
    "availability": Figure(SHARE, "the share of probes that did not"),
    "p50": Figure(SECONDS, "half of the answers took no longer"),
    "p95": Figure(SECONDS, "95% of the answers took no longer"),
    "p99": Figure(SECONDS, "99% of the answers took no longer"),
    "max": Figure(SECONDS, "the longest time to an answer"),
}
"""What every check gives, over several probes: fields of ``Stats``."""


@cache
def figures() -> dict[str, Figure]:
    """What single probes of some kind of check give, by name; a name means the same unit in every kind."""
    return {name: figure for kind in registry().values() for name, figure in kind.gives.items()}


class Threshold(msgspec.Struct, frozen=True):
    """``[CHECK.]FIGURE OP LIMIT [for DURATION]``, read and checked.

    ``check`` is empty for all checks taken together. The limit is in the figure's unit: a share from
    0 to 1, seconds, bytes or a plain number. ``hold`` is for how many seconds it must be so without a break.
    """

    check: str
    metric: str
    comparison: Comparison
    hold: Duration = Duration(0)

    @classmethod
    def parse(cls, text: str, checks: Mapping[str, Check] | None = None) -> Self:
        """Read a threshold.

        Args:
            text: what the user wrote.
            checks: those that are declared, by name; None when that is not known yet.

        Raises:
            ChaosdError: what is wrong with it in one line, and the words that are allowed.
        """
        left, op, right = split(text, _EXAMPLE)
        check, metric = _subject(left, checks)
        held = _FOR.match(right)
        limit = _figure(metric).unit.parse(held[1] if held else right)
        hold = Duration.parse(held[2].strip()) if held else Duration(0)
        return cls(check, metric, Comparison(op, limit), hold)

    def __str__(self) -> str:
        subject = f"{self.check}.{self.metric}" if self.check else self.metric
        held = f" for {self.hold}" if self.hold else ""
        return f"{subject} {self.comparison.op} {self.show(self.limit)}{held}"

    def show(self, value: float) -> str:
        """A value of the figure with its unit."""
        return _figure(self.metric).unit.show(value)

    @property
    def limit(self) -> float:
        """What the figure is compared with."""
        return self.comparison.limit

    @property
    def samples(self) -> int:
        """How many samples the figure is taken over at least."""
        return ENOUGH if self.metric in METRICS else 1

    def figure(self, stats: Stats) -> float | None:
        """The figure this is about; None when it was not measured."""
        if self.metric not in METRICS:
            return stats.figures.get(self.metric)
        value: float | None = getattr(stats, self.metric)
        return value

    def crossed(self, stats: Stats) -> bool:
        """Whether the figure is beyond the limit, whatever the samples say that are still missing."""
        possible = [*self._possible(stats)]
        return bool(possible) and all(map(self.comparison.holds, possible))

    def _possible(self, stats: Stats) -> Iterator[float]:
        # A share is known when it is decided: of five probes, three that failed are more than half.
        missing = max(self.samples - stats.count, 0)
        value = self.figure(stats)
        if value is None or (missing and self.metric not in ("error_rate", "availability")):
            return
        share = stats.ok if self.metric == "availability" else stats.failed
        yield from (share / ENOUGH, (share + missing) / ENOUGH) if missing else (value,)


def _figure(metric: str) -> Figure:
    return METRICS.get(metric) or Host.gives.get(metric) or figures()[metric]


def _subject(text: str, declared: Mapping[str, Check] | None) -> tuple[str, str]:
    checks = declared or {}
    check, metric = _parts(text, checks)
    if text.startswith("."):
        raise ChaosdError(f"no name before the dot in {text!r}", hint=_EXAMPLE)
    if not check:
        return "" if metric in METRICS else _only(metric, checks), metric
    given = Host.gives if check == HOST else {}
    if check in checks:
        given = checks[check].gives
    elif declared is not None and metric not in given:
        known = f"one of {', '.join(sorted(checks))}" if checks else "the scenario has no checks"
        raise ChaosdError(f"unknown check {check!r}", hint=known)
    if declared is not None and metric not in METRICS and metric not in given:
        raise ChaosdError(f"{check} does not measure {metric}", hint=near(metric, [*METRICS, *given]))
    return check, metric


def _parts(text: str, checks: Collection[str]) -> tuple[str, str]:
    # The name of a check may have dots in it, and so may a figure: the longest figure wins.
    words = text.split(".")
    for start in range(len(words)):
        metric = ".".join(words[start:])
        if metric in METRICS or metric in figures():
            return ".".join(words[:start]), metric
    metric = next((text[len(name) + 1 :] for name in checks if text.startswith(f"{name}.")), text)
    raise ChaosdError(f"unknown metric {metric!r}", hint=near(metric, [*METRICS, *figures()]))


def _only(metric: str, checks: Mapping[str, Check]) -> str:
    able = [name for name, check in checks.items() if metric in check.gives]
    if len(able) > 1:
        raise ChaosdError(f"{metric!r} of which check?", hint=f"such as {able[0]}.{metric}")
    if able or metric in Host.gives:
        return able[0] if able else HOST
    raise ChaosdError(f"no check measures {metric!r}", hint=f"name one that does, such as NAME.{metric}")


@cache
def defaults() -> tuple[Threshold, ...]:
    """What ends a run that says nothing else.

    Pressure is not among them: "full" is the time in which all tasks that are not idle were stalled
    (Documentation/accounting/psi.rst), on a quiet host all the time in which a fault holds back one.
    """
    memory = Threshold(HOST, "memory.available", Comparison("<", 0.03))  # parsing it would load every check
    return Threshold.parse("error_rate > 50%"), Threshold.parse("availability < 50%"), memory


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
