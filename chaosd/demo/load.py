"""A load generator: a steady rate of requests, whatever the answers, and what came of them."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from chaosd.demo import world
from chaosd.demo.web import cause_of

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Ask:
    """A request to send: a GET, or a POST of ``body`` if there is one."""

    url: str
    body: str = ""

    def send(self, timeout: float) -> int:
        """Send it over a new connection; the status of the answer, which is read to its end."""
        url = urlsplit(self.url)
        connection = HTTPConnection(url.hostname or "", url.port, timeout=timeout)
        try:
            path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
            connection.request("POST" if self.body else "GET", path, self.body or None)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


@dataclass(frozen=True)
class Shot:
    """One request: seconds since the start at its end, seconds it took, what came (``200``, ``timeout``)."""

    at: float
    latency: float
    outcome: str

    @property
    def ok(self) -> bool:
        """Whether a status below 400 came back."""
        return self.outcome.isdigit() and int(self.outcome) < 400


@dataclass
class Summary:
    """The shots of a stretch of time. ``missed`` were due and not sent: every worker was waiting."""

    seconds: float
    shots: list[Shot] = field(repr=False)
    missed: int = 0

    def data(self) -> dict[str, Any]:
        """Counts, rates (0 to 1) and latencies in milliseconds, as plain data."""
        errors = sum(not shot.ok for shot in self.shots)
        share = errors / len(self.shots) if self.shots else 0.0
        return {
            "seconds": round(self.seconds, 3),
            "requests": len(self.shots),
            "rate": round(len(self.shots) / self.seconds, 2) if self.seconds else 0.0,
            "errors": errors,
            "missed": self.missed,
            "error_rate": round(share, 6),
            "availability": round(1 - share, 6),
            "latency_ms": percentiles([shot.latency * 1000 for shot in self.shots]),
            "outcomes": dict(Counter(shot.outcome for shot in self.shots)),
        }

    def line(self) -> str:
        """The same in one line for people."""
        data = self.data()
        times = "  ".join(f"{name} {value:8.1f} ms" for name, value in data["latency_ms"].items())
        return f"{data['requests']:6d} requests  {data['errors']:5d} errors  {times}"


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Nearest-rank p50, p95 and p99, and the maximum; empty without values."""
    if not values:
        return {}
    ranked = sorted(values)
    ranks = {name: max(math.ceil(share * len(ranked)), 1) - 1 for name, share in PERCENTILES.items()}
    return {name: round(ranked[rank], 3) for name, rank in ranks.items()} | {"max": round(ranked[-1], 3)}


class Load:
    """Sends ``requests`` in turn, ``rate`` a second, each over a new connection.

    Args:
        requests: plain http; an address alone is a GET.
        seconds: for how long.
        rate: requests a second; they are sent when due, not when the one before was answered.
        timeout: seconds for the connect, and for each wait for data.
        workers: how many may be under way; when all wait for more than a second, requests are missed.
        netns: named network namespace to send from; none is the caller's own.
    """

    def __init__(
        self,
        requests: Sequence[str | Ask],
        *,
        seconds: float,
        rate: float,
        timeout: float = 5.0,
        workers: int = 32,
        netns: str = "",
    ) -> None:
        self._requests = [Ask(each) if isinstance(each, str) else each for each in requests]
        self._seconds, self._rate, self._timeout = seconds, rate, timeout
        self._workers, self._netns = workers, netns
        self._numbers = itertools.count()  # next() of it is atomic in CPython
        self._shots: list[Shot] = []
        self._missed = itertools.count()
        self._began = 0.0

    def run(self, each_second: Callable[[int, Summary], None] | None = None) -> Summary:
        """Send them all; ``each_second`` is told of each second that has passed.

        Raises:
            DemoError: there is no such network namespace.
        """
        with world.inside(self._netns) if self._netns else nullcontext():
            self._began = time.monotonic()
            threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._workers)]
            for thread in threads:
                thread.start()
        for second in range(math.ceil(self._seconds)):
            time.sleep(max(self._began + second + 1 - time.monotonic(), 0))
            if each_second:
                shots = [shot for shot in self._shots if second <= shot.at < second + 1]
                each_second(second, Summary(1.0, shots))
        for thread in threads:
            thread.join()
        return Summary(self._seconds, self._shots, next(self._missed))

    def _work(self) -> None:
        while (number := next(self._numbers)) < self._seconds * self._rate:
            due = number / self._rate
            wait = self._began + due - time.monotonic()
            if wait < -1:
                next(self._missed)
                continue
            time.sleep(max(wait, 0))
            self._shoot(self._requests[number % len(self._requests)])

    def _shoot(self, ask: Ask) -> None:
        began = time.monotonic()
        try:
            outcome = str(ask.send(self._timeout))
        except (OSError, HTTPException) as error:
            outcome = cause_of(error)
        ended = time.monotonic()
        self._shots.append(Shot(ended - self._began, ended - began, outcome))
