"""Canary runs: begin with a small share of what may be hit, widen while all is well, shrink when not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chaosd.checks.threshold import Figures, Threshold, Watch
from chaosd.units import Duration, Percent

Of = Literal["events", "targets"]


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is widened.

    Args:
        steps: the shares that may be hit, one after the other.
        of: what they are shares of: packets, flows, connections or calls; or the targets of the run, each
            of which has its faults or has not.
        every: for how long each must be borne before the next.
        shrink_when: what makes it go one step back, at once.
    """

    steps: tuple[Percent, ...]
    of: Of
    every: Duration
    shrink_when: tuple[Threshold, ...]


class CanaryFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario may say of it."""

    steps: Annotated[tuple[Percent, ...], Meta(description="shares, one after the other", min_length=1)] = (
        Percent(1),
        Percent(5),
        Percent(25),
        Percent(100),
    )
    of: Annotated[Of, Meta(description="what they are shares of")] = "events"
    every: Annotated[Duration, Meta(description="how long each is tried")] = Duration(10)
    shrink_when: Annotated[tuple[str, ...], Meta(description="thresholds that make it one step smaller")] = (
        "error_rate > 5%",
    )


def turns(words: Iterable[str], seed: int) -> dict[str, float]:
    """From which share on each target is hit, that one excluded: from 0 for the first one to under 1."""
    import hashlib  # late: hardly any run needs it, and it brings a library of its own

    order = sorted(set(words), key=lambda word: hashlib.blake2b(f"{seed} {word}".encode()).digest())
    return {word: number / len(order) for number, word in enumerate(order)}


class Widening:
    """Where a run's canary stands.

    Args:
        canary: the steps and what they hang on; None for all at once.
    """

    def __init__(self, canary: Canary | None) -> None:
        self._canary = canary
        self._step = 0
        self._since = 0.0
        self._watches = [Watch(threshold) for threshold in canary.shrink_when] if canary else []
        self.reason = ""

    @property
    def share(self) -> float:
        """How much may be hit now, from 0 to 1."""
        return self._canary.steps[self._step].fraction if self._canary else 1.0

    def look(self, figures: Figures, at: float, live: float) -> bool:
        """Take a step if it is time for one; whether the share has changed.

        Args:
            figures: the checks.
            at: now, in seconds of ``checks.base.now``.
            live: since when the fault is, on the same clock.
        """
        if self._canary is None:
            return False
        since = self._since = self._since or live
        breaches = (watch.breached(figures, since) for watch in self._watches)
        self.reason = next(filter(None, breaches), "")
        before = self._step
        if self.reason:
            self._step = max(self._step - 1, 0)
        elif at - since >= self._canary.every:
            self._step = min(self._step + 1, len(self._canary.steps) - 1)
        if self.reason or self._step != before:
            self._since = at  # what was measured under another share says nothing about this one
        return self._step != before
