"""Figures over a set of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from chaosd.checks.base import Sample

_RANKS = (0.50, 0.95, 0.99)


class Stats(msgspec.Struct, frozen=True):
    """What a set of samples says; what cannot be said of it is None.

    ``error_rate`` (0 to 1) is the share of probes that failed and ``availability`` the rest.
    ``p50``, ``p95``, ``p99`` and ``max`` are seconds, nearest rank, over all samples that have a
    latency (see ``Sample``). ``value`` is the newest number, of kinds that measure one.
    ``detail`` is from the newest sample, ``failure`` from the newest that failed.
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
    value: float | None = None
    detail: str = ""
    failure: str = ""


def stats(samples: Sequence[Sample]) -> Stats:
    """The figures of some samples, in any order."""
    if not samples:
        return Stats()
    newest_first = sorted(samples, key=lambda sample: -sample.ended)
    failures = [sample.detail for sample in newest_first if not sample.ok]
    values = [sample.value for sample in newest_first if sample.value is not None]
    latencies = sorted(sample.latency for sample in samples if sample.latency is not None)
    p50, p95, p99 = (_nearest_rank(latencies, share) for share in _RANKS)
    rate = len(failures) / len(samples)
    return Stats(
        count=len(samples),
        ok=len(samples) - len(failures),
        failed=len(failures),
        per_second=_per_second(newest_first),
        error_rate=rate,
        availability=1 - rate,
        p50=p50,
        p95=p95,
        p99=p99,
        max=latencies[-1] if latencies else None,
        value=values[0] if values else None,
        detail=newest_first[0].detail,
        failure=failures[0] if failures else "",
    )


def _nearest_rank(ranked: Sequence[float], share: float) -> float | None:
    return ranked[max(math.ceil(share * len(ranked)), 1) - 1] if ranked else None


def _per_second(newest_first: Sequence[Sample]) -> float:
    stretch = newest_first[0].ended - newest_first[-1].ended
    return (len(newest_first) - 1) / stretch if stretch > 0 else 0.0
