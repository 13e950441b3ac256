"""Runs checks for as long as a run lasts and keeps what they measured."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import chain, islice, takewhile
from typing import Any

import msgspec

from chaosd.checks.base import Check, Sample, now
from chaosd.checks.stats import Stats, stats
from chaosd.errors import ChaosdError
from chaosd.kernel.netns import NetnsRef, inside

THREADS = 16
"""Most threads for one check: as many probes can wait in vain at a time."""
_KEPT = 20_000
"""Samples kept for one check: half an hour at ten a second."""
_GRACE = 1.0
"""Seconds after ``within`` until a probe that has not come back counts as failed."""
_SILENCE = 0.02
"""Seconds between two rings: hundreds of samples a second are not judged one by one."""
_GOODBYE = 0.05
"""Seconds that ``stop`` waits for threads; one that hangs is left to end by itself."""


class Sampler:
    """Probes each check at its own rate in daemon threads.

    All its methods may be called while the threads run; none of them blocks. Its descriptor becomes
    readable when there is something new to judge.

    Args:
        checks: by the name that thresholds and reports use.
        netns: the network namespace for each check that names one, by the check's name.

    Raises:
        ChaosdError: a check names a network namespace and none was given for it.
    """

    def __init__(self, checks: Mapping[str, Check], netns: Mapping[str, NetnsRef] | None = None) -> None:
        refs = netns or {}
        for name, check in checks.items():
            if check.netns and name not in refs:
                raise ChaosdError(f"check {name!r}: there is no network namespace {check.netns!r}")
        self._stop = threading.Event()
        self._bell = _Bell()
        self._series = {
            name: _Series(check, refs.get(name), self._stop, self._bell) for name, check in checks.items()
        }

    def start(self) -> None:
        """Begin; the first probe of every check starts at once.

        Raises:
            ChaosdError: a check cannot be prepared.
        """
        for series in self._series.values():
            series.check.prepare()
        for series in self._series.values():
            series.start()

    def fileno(self) -> int:
        """For ``select``."""
        return self._bell.fileno()

    def heard(self) -> None:
        """Be readable again only for samples that come from now on."""
        self._bell.hush()

    def stop(self) -> None:
        """End within a tenth of a second, also when a probe hangs."""
        self._stop.set()
        for series in self._series.values():
            series.check.cancel()
        until = now() + _GOODBYE
        for series in self._series.values():
            series.join(until)

    def stats(self, name: str, window: float, *, since: float = 0.0, at_least: int = 0) -> Stats:
        """The figures of one check, or of all that judge taken together when ``name`` is empty.

        Args:
            name: a check.
            window: seconds to look back from now.
            since: probes that began before this time of ``now()`` do not count.
            at_least: look further back than the window until there are that many samples.

        Raises:
            Exception: what made a probe break, when it was no expected failure.
        """
        chosen = [self._series[name]] if name else [s for s in self._series.values() if s.check.judges]
        found = [sample for series in chosen for sample in series.since(now() - window, since)]
        if len(found) < at_least:
            found = [sample for series in chosen for sample in series.latest(at_least, since)]
        return stats(found)

    def snapshot(self, window: float, *, since: float = 0.0) -> dict[str, Stats]:
        """The figures of every check over the last seconds, and under ``""`` of all taken together."""
        return {name: self.stats(name, window, since=since) for name in ("", *self._series)}

    def summary(self, window: float, *, since: float = 0.0) -> dict[str, dict[str, Any]]:
        """The figures of every check as plain data, for the journal."""
        names = self._series
        return {name: msgspec.to_builtins(self.stats(name, window, since=since)) for name in names}

    def failing(self, names: Iterable[str], window: float, since: float = 0.0) -> str:
        """Which of these checks do not hold, in one line; empty when all of them do.

        A check holds when every probe that ended within the window (at least the latest one) and
        began after ``since`` was good, and there was one.
        """
        said = []
        for name in names:
            seen = self.stats(name, window, since=since, at_least=1)
            if not seen.count:
                said.append(f"{name}: not measured yet")
            elif seen.failed:
                said.append(f"{name}: {seen.failure} ({seen.failed} of {seen.count} probes failed)")
        return "; ".join(said)


class _Bell:
    """A descriptor that is readable from a sample on until it is hushed, fifty times a second at most."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._rung = 0.0

    def fileno(self) -> int:
        return self._fd

    def ring(self) -> None:
        at = now()
        if at - self._rung >= _SILENCE:
            self._rung = at
            os.eventfd_write(self._fd, 1)

    def hush(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass  # it has not rung

    def __del__(self) -> None:
        os.close(self._fd)  # by then no thread is left that could ring


class _Series:
    """The samples of one check, in the order in which they ended, and the threads that take them."""

    def __init__(self, check: Check, ref: NetnsRef | None, stop: threading.Event, bell: _Bell) -> None:
        self.check = check
        self._ref, self._stop, self._bell = ref, stop, bell
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._next = 0.0
        self._under_way: dict[int, float] = {}
        self._broken: BaseException | None = None
        count = min(max(math.ceil(check.rate * check.within), 1), THREADS)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, until: float) -> None:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(until - now(), 0))

    def since(self, cutoff: float, began: float) -> list[Sample]:
        with self._lock:
            return list(takewhile(lambda sample: sample.ended >= cutoff, self._newest_first(began)))

    def latest(self, count: int, began: float) -> list[Sample]:
        with self._lock:
            return list(islice(self._newest_first(began), count))

    def _newest_first(self, began: float) -> Iterator[Sample]:
        if self._broken is not None:
            raise self._broken
        for sample in chain(self._overdue(), reversed(self._samples)):
            if sample.ended < began:
                return
            if sample.began >= began:
                yield sample

    def _overdue(self) -> list[Sample]:
        at = now()
        limit = at - self.check.within - _GRACE
        return [
            Sample(began, at, False, at - began, "the probe itself hangs")
            for began in self._under_way.values()
            if began < limit
        ]

    def _work(self) -> None:
        try:
            while not self._stop.wait(self._claim() - now()):
                sample = self._probe()
                with self._lock:
                    del self._under_way[threading.get_ident()]
                    self._samples.append(sample)
                self._bell.ring()
        except BaseException as error:
            self._broken = error
            raise

    def _claim(self) -> float:
        # A slot that nobody was free for is left out: probes are never made up for in a burst.
        with self._lock:
            due = max(self._next, now())
            self._next = due + 1 / self.check.rate
        return due

    def _probe(self) -> Sample:
        began = now()
        with self._lock:
            self._under_way[threading.get_ident()] = began
        try:
            with inside(self._ref) if self._ref else nullcontext():
                return self.check.probe()
        except FileNotFoundError:
            return Sample(began, now(), False, None, "its network namespace is gone")
