"""Figures over a set of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter

import msgspec

from chaosd.checks.base import Sample

_RANKS = (0.50, 0.95, 0.99)


class Stats(msgspec.Struct, frozen=True):
    """What a set of samples says; what cannot be said of it is None.

    ``error_rate`` (0 to 1) is the share of probes that failed and ``availability`` the rest.
    ``p50``, ``p95``, ``p99`` and ``max`` are seconds, nearest rank, over all samples that have a
    latency (see ``Sample``). ``figures`` are of the newest sample that has some, of kinds that measure
    something. ``detail`` is from the newest sample, ``failure`` from the newest that failed.
    """

    count: int = 0
    ok: int = 0
    failed: int = 0
    per_second: float = 0.0
    error_rate: float | None = None
    availability: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    figures: Mapping[str, float] = {}
    detail: str = ""
    failure: str = ""


def stats(samples: Sequence[Sample]) -> Stats:
    """The figures of some samples, in any order."""
    if not samples:
        return Stats()
    failures = [sample for sample in samples if not sample.ok]
    newest = max(samples, key=_ended)
    failure = max(failures, key=_ended, default=None)
    measured = max((sample for sample in samples if sample.figures), key=_ended, default=None)
    latencies = sorted(sample.latency for sample in samples if sample.latency is not None)
    p50, p95, p99 = (_nearest_rank(latencies, share) for share in _RANKS)
    rate = len(failures) / len(samples)
    return Stats(
        count=len(samples),
        ok=len(samples) - len(failures),
        failed=len(failures),
        per_second=_per_second(samples),
        error_rate=rate,
        availability=1 - rate,
        p50=p50,
        p95=p95,
        p99=p99,
        max=latencies[-1] if latencies else None,
        figures=measured.figures if measured else {},
        detail=newest.detail,
        failure=failure.detail if failure else "",
    )


_ended = attrgetter("ended")


def _nearest_rank(ranked: Sequence[float], share: float) -> float | None:
    return ranked[max(math.ceil(share * len(ranked)), 1) - 1] if ranked else None


def _per_second(samples: Sequence[Sample]) -> float:
    ends = [sample.ended for sample in samples]
    stretch = max(ends) - min(ends)
    return (len(ends) - 1) / stretch if stretch > 0 else 0.0
