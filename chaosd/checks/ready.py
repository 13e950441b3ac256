"""Whether this host can measure what a scenario asks for, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chaosd.checks.base import Check
from chaosd.checks.host import Host
from chaosd.checks.threshold import HOST, Threshold


def implied(thresholds: Iterable[Threshold], declared: Mapping[str, Check]) -> dict[str, Check]:
    """The checks that thresholds need and no one declared: at most that of the host."""
    needed = any(threshold.check == HOST for threshold in thresholds)
    return {HOST: Host()} if needed and HOST not in declared else {}


def demand(checks: Mapping[str, Check], thresholds: Sequence[Threshold]) -> None:
    """Refuse what cannot be measured here.

    Args:
        checks: all that will be sampled, by name.
        thresholds: all that will be watched, each on one of these checks or on all.

    Raises:
        UnsupportedError: a check, or a figure that a threshold is about, needs what is not there.
    """
    for name, check in checks.items():
        check.demand(*(threshold.metric for threshold in thresholds if threshold.check == name))
