"""Counters and one latency histogram in the Prometheus text format, with nothing but the standard library."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = dict[str, str]
Series = tuple[str, str, str, list[tuple[Labels, float]]]
"""A metric: name, type, help, and its values by labels."""


class Requests:
    """How many requests, by path and status, and how long they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[int] = Counter()
        self._seconds = 0.0

    def add(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        with self._lock:
            self._seen[path, status] += 1
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def lines(self) -> Iterator[str]:
        """The two metrics as text lines."""
        with self._lock:
            seen, buckets, seconds = dict(self._seen), dict(self._buckets), self._seconds
        values = [({"path": path, "status": str(code)}, float(n)) for (path, code), n in seen.items()]
        yield from lines([("demo_requests_total", "counter", "Requests answered.", values)])
        yield "# HELP demo_request_seconds Time to answer."
        yield "# TYPE demo_request_seconds histogram"
        total = 0
        for index, bound in enumerate((*BUCKETS, float("inf"))):
            total += buckets.get(index, 0)
            edge = f"{bound:g}" if bound != float("inf") else "+Inf"
            yield f'demo_request_seconds_bucket{{le="{edge}"}} {total}'
        yield f"demo_request_seconds_sum {seconds:.6f}"
        yield f"demo_request_seconds_count {total}"


def lines(series: Iterable[Series]) -> Iterator[str]:
    """Metrics as lines of the Prometheus text format; label values must need no escape."""
    for name, kind, says, values in series:
        yield f"# HELP {name} {says}"
        yield f"# TYPE {name} {kind}"
        for labels, value in values:
            inner = ",".join(f'{key}="{word}"' for key, word in labels.items())
            yield f"{name}{{{inner}}} {value:g}"
