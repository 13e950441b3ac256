"""What a careful caller does about a bad dependency: retry, circuit breaker, cached answer."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

CLOSED, HALF_OPEN, OPEN = "closed", "half-open", "open"


class DependencyError(Exception):
    """A dependency failed; ``cause`` is one word for counters, such as ``timeout``."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class CircuitOpenError(DependencyError):
    """The breaker did not let the call through."""

    def __init__(self, name: str) -> None:
        super().__init__("open", f"circuit breaker of {name} is open")


@dataclass(frozen=True)
class Transition:
    """A breaker went from one state to another at ``at`` (Unix time)."""

    at: float
    before: str
    after: str


class Breaker:
    """Opens when the share of failures among the last calls is too high.

    Args:
        name: the dependency.
        window: how many of the last calls count.
        minimum: how many there must be before it may open.
        threshold: the share of failures, 0 to 1, that opens it.
        open_for: seconds until a trial is let through.
        trials: successes in a row that close it; one trial runs at a time.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        window: int = 20,
        minimum: int = 10,
        threshold: float = 0.5,
        open_for: float = 2.0,
        trials: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.state = CLOSED
        self.entered = {CLOSED: 0, HALF_OPEN: 0, OPEN: 0}
        self._history: deque[Transition] = deque(maxlen=200)
        self._minimum, self._threshold = minimum, threshold
        self._open_for, self._trials, self._clock = open_for, trials, clock
        self._lock = threading.Lock()
        self._results: deque[bool] = deque(maxlen=window)
        self._epoch = 0
        self._opened = 0.0
        self._passed = 0
        self._trying = False

    def enter(self) -> int:
        """Ask to make a call; the number returned goes to ``leave``.

        Raises:
            CircuitOpenError: the call must not be made.
        """
        with self._lock:
            if self.state == OPEN and self._clock() - self._opened >= self._open_for:
                self._become(HALF_OPEN)
            if self.state == OPEN or (self.state == HALF_OPEN and self._trying):
                raise CircuitOpenError(self.name)
            self._trying = self.state == HALF_OPEN
            return self._epoch

    def leave(self, epoch: int, *, ok: bool) -> None:
        """Tell how the call went; one that began in an earlier state counts for nothing."""
        with self._lock:
            if epoch != self._epoch:
                return
            if self.state == HALF_OPEN:
                self._after_trial(ok)
            else:
                self._results.append(ok)
                if self._too_many():
                    self._become(OPEN)

    def transitions(self) -> list[Transition]:
        """The last 200 changes of state, oldest first."""
        with self._lock:
            return list(self._history)

    def _after_trial(self, ok: bool) -> None:
        self._trying = False
        self._passed += ok
        if not ok:
            self._become(OPEN)
        elif self._passed >= self._trials:
            self._become(CLOSED)

    def _too_many(self) -> bool:
        failed = self._results.count(False)
        return len(self._results) >= self._minimum and failed >= self._threshold * len(self._results)

    def _become(self, state: str) -> None:
        self._history.append(Transition(time.time(), self.state, state))
        self.state = state
        self.entered[state] += 1
        self._epoch += 1
        self._results.clear()
        self._passed = 0
        self._trying = False
        self._opened = self._clock()


@dataclass(frozen=True)
class Backoff:
    """Waits in seconds between ``attempts`` tries: first, first x 2, ... up to ``limit``, plus jitter."""

    attempts: int = 3
    first: float = 0.05
    limit: float = 1.0
    jitter: float = 0.1

    def waits(self) -> Iterator[float]:
        """One wait for each retry."""
        for number in range(self.attempts - 1):
            wait = min(self.first * 2**number, self.limit)
            yield wait * (1 + random.random() * self.jitter)  # noqa: S311 - spreads callers, no secret


class Cache:
    """The last good answer by key, at most ``age`` seconds old; the ``size`` latest keys are kept."""

    def __init__(self, age: float, size: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        self._age, self._size, self._clock = age, size, clock
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: str, value: Any) -> None:
        """Keep an answer."""
        with self._lock:
            self._kept[key] = (self._clock(), value)
            self._kept.move_to_end(key)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)

    def get(self, key: str) -> Any | None:
        """The answer, or None when there is none young enough."""
        with self._lock:
            at, value = self._kept.get(key, (float("-inf"), None))
            return value if self._clock() - at <= self._age else None


@dataclass
class Counts:
    """What happened to the calls of one dependency since the start."""

    calls: int = 0
    attempts: int = 0
    retries: int = 0
    rejected: int = 0
    fallbacks: int = 0
    failures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A value and where it came from: ``live`` or ``cache``."""

    value: Any
    source: str


class Guard:
    """Calls one dependency through retry, breaker and cache; any of the three may be None (off)."""

    def __init__(
        self,
        name: str,
        *,
        backoff: Backoff | None,
        breaker: Breaker | None,
        cache: Cache | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.counts = Counts()
        self.breaker = breaker
        self._backoff, self._cache, self._sleep = backoff, cache, sleep
        self._retries: deque[dict[str, object]] = deque(maxlen=50)
        self._lock = threading.Lock()

    def call(self, fetch: Callable[[], Any], key: str = "") -> Answer:
        """The dependency's answer, or the last one kept under ``key``.

        Raises:
            DependencyError: every try failed (or the breaker is open) and nothing is cached.
        """
        self._count("calls")
        try:
            value = self._tries(fetch)
        except DependencyError:
            kept = self._cache.get(key) if self._cache and key else None
            if kept is None:
                raise
            self._count("fallbacks")
            return Answer(kept, "cache")
        if self._cache and key:
            self._cache.put(key, value)
        return Answer(value, "live")

    def state(self) -> dict[str, Any]:
        """Counts, breaker and the latest retries, as plain data."""
        with self._lock:
            data: dict[str, Any] = asdict(self.counts) | {"recent_retries": list(self._retries)}
        if self.breaker:
            moves = [asdict(move) for move in self.breaker.transitions()]
            data["breaker"] = {"state": self.breaker.state, "transitions": moves}
        return data | {"retry": self._backoff is not None, "cache": self._cache is not None}

    def _tries(self, fetch: Callable[[], Any]) -> Any:
        for number, wait in enumerate(self._backoff.waits() if self._backoff else (), start=1):
            try:
                return self._once(fetch)
            except CircuitOpenError:
                raise
            except DependencyError as error:
                self._note_retry(number, wait, error.cause)
            self._sleep(wait)
        return self._once(fetch)

    def _once(self, fetch: Callable[[], Any]) -> Any:
        epoch = self._enter()
        self._count("attempts")
        ok = False
        try:
            value = fetch()
            ok = True
        except DependencyError as error:
            with self._lock:
                self.counts.failures[error.cause] = self.counts.failures.get(error.cause, 0) + 1
            raise
        finally:
            if self.breaker:
                self.breaker.leave(epoch, ok=ok)
        return value

    def _enter(self) -> int:
        try:
            return self.breaker.enter() if self.breaker else 0
        except CircuitOpenError:
            self._count("rejected")
            raise

    def _note_retry(self, number: int, wait: float, cause: str) -> None:
        with self._lock:
            self.counts.retries += 1
            note: dict[str, object] = {
                "at": time.time(),
                "retry": number,
                "wait_s": round(wait, 6),
                "cause": cause,
            }
            self._retries.append(note)

    def _count(self, what: str) -> None:
        with self._lock:
            setattr(self.counts, what, getattr(self.counts, what) + 1)
