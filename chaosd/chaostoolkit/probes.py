"""Probes for experiments of the Chaos Toolkit."""

from __future__ import annotations

import chaosd
from chaosd.chaostoolkit import held

__all__ = ["can_inject", "faults_are_live", "hits", "verdict"]


def can_inject(fault: str) -> bool:
    """Whether this host can do a fault, found out by trying."""
    return chaosd.available(fault) is None


def faults_are_live() -> bool:
    """Whether the faults that the experiment has begun are in force."""
    run = held.newest()
    return run is not None and run.live


def hits() -> int:
    """How many events the faults of the newest run have hit, as of half a second ago at the latest."""
    run = held.newest()
    return (run.injected or 0) if run is not None else 0


def verdict() -> str:
    """How the newest run ended, such as ``passed`` or ``inconclusive``; empty while it goes on."""
    run = held.newest()
    return run.verdict if run is not None else ""
