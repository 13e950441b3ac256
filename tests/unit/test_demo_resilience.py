"""Retry, breaker and cache of the demo, on a clock of the test's own."""

from __future__ import annotations

import pytest

from chaosd.demo.resilience import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    Backoff,
    Breaker,
    Cache,
    CircuitOpenError,
    DependencyError,
    Guard,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, **options: object) -> Breaker:
    settings = {"window": 10, "minimum": 4, "threshold": 0.5, "open_for": 2.0, "trials": 2} | options
    return Breaker("pms", clock=clock, **settings)  # type: ignore[arg-type]


def pass_through(breaker: Breaker, *results: bool) -> None:
    for ok in results:
        breaker.leave(breaker.enter(), ok=ok)


def moves(breaker: Breaker) -> list[tuple[str, str]]:
    return [(move.before, move.after) for move in breaker.transitions()]


def test_half_of_the_calls_failing_opens_it_once_there_are_enough() -> None:
    breaker = make(Clock())
    pass_through(breaker, False, True, False)
    assert breaker.state == CLOSED
    pass_through(breaker, True)
    assert breaker.state == OPEN


def test_fewer_failures_than_the_threshold_leave_it_closed() -> None:
    breaker = make(Clock())
    pass_through(breaker, *[True, True, False] * 20)
    assert breaker.state == CLOSED
    assert breaker.transitions() == []


def test_open_rejects_then_one_trial_at_a_time_closes_it() -> None:
    clock = Clock()
    breaker = make(clock)
    pass_through(breaker, False, False, False, False)
    clock.now = 1.9
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    clock.now = 2.0
    trial = breaker.enter()
    assert breaker.state == HALF_OPEN
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    breaker.leave(trial, ok=True)
    pass_through(breaker, True)
    assert moves(breaker) == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
    assert breaker.entered == {CLOSED: 1, HALF_OPEN: 1, OPEN: 1}


def test_a_failed_trial_opens_it_for_the_full_time_again() -> None:
    clock = Clock()
    breaker = make(clock)
    pass_through(breaker, False, False, False, False)
    clock.now = 2.0
    pass_through(breaker, False)
    clock.now = 3.9
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    clock.now = 4.0
    pass_through(breaker, True, True)
    assert breaker.state == CLOSED


def test_a_call_from_before_the_state_changed_counts_for_nothing() -> None:
    clock = Clock()
    breaker = make(clock)
    late = breaker.enter()
    pass_through(breaker, False, False, False, False)
    clock.now = 2.0
    trial = breaker.enter()
    breaker.leave(late, ok=False)
    assert breaker.state == HALF_OPEN
    breaker.leave(trial, ok=True)
    pass_through(breaker, True)
    assert breaker.state == CLOSED


def test_waits_double_up_to_the_limit() -> None:
    assert list(Backoff(6, 0.1, 0.5, 0.0).waits()) == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    for wait, base in zip(Backoff(4, 0.1, 1.0, 0.2).waits(), (0.1, 0.2, 0.4), strict=True):
        assert base <= wait <= base * 1.2


def flaky(*outcomes: object) -> object:
    queue = list(outcomes)

    def fetch() -> object:
        outcome = queue.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return fetch


DOWN = DependencyError("refused", "down")


def test_a_call_is_tried_again_after_growing_waits() -> None:
    slept: list[float] = []
    guard = Guard("db", backoff=Backoff(3, 0.1, 1.0, 0.0), breaker=None, cache=None, sleep=slept.append)
    answer = guard.call(flaky(DOWN, DOWN, "rows"))
    assert (answer.value, answer.source) == ("rows", "live")
    assert slept == pytest.approx([0.1, 0.2])
    state = guard.state()
    assert (state["attempts"], state["retries"], state["failures"]) == (3, 2, {"refused": 2})
    assert [retry["wait_s"] for retry in state["recent_retries"]] == pytest.approx([0.1, 0.2])


def test_without_retry_the_first_failure_is_the_answer() -> None:
    guard = Guard("db", backoff=None, breaker=None, cache=None)
    with pytest.raises(DependencyError, match="down"):
        guard.call(flaky(DOWN, "never asked"))
    assert guard.counts.attempts == 1


def test_the_last_good_answer_serves_until_it_is_too_old() -> None:
    clock = Clock()
    guard = Guard("pms", backoff=None, breaker=None, cache=Cache(60.0, clock=clock))
    guard.call(flaky("price"), "k")
    clock.now = 60.0
    assert guard.call(flaky(DOWN), "k").source == "cache"
    with pytest.raises(DependencyError):
        guard.call(flaky(DOWN), "other key")
    clock.now = 60.1
    with pytest.raises(DependencyError):
        guard.call(flaky(DOWN), "k")
    assert guard.counts.fallbacks == 1


def test_an_open_breaker_is_not_retried_and_not_called() -> None:
    clock, slept = Clock(), []
    breaker = make(clock, minimum=2)
    guard = Guard("pms", backoff=Backoff(3, 0.1), breaker=breaker, cache=None, sleep=slept.append)
    with pytest.raises(CircuitOpenError):
        guard.call(flaky(DOWN, DOWN, "never asked"))
    with pytest.raises(CircuitOpenError):
        guard.call(flaky("never asked"))
    assert (guard.counts.attempts, guard.counts.rejected) == (2, 2)


def test_the_cache_forgets_its_oldest_key_when_full() -> None:
    cache = Cache(10.0, size=2, clock=Clock())
    for key in ("a", "b", "c"):
        cache.put(key, key)
    assert [cache.get(key) for key in ("a", "b", "c")] == [None, "b", "c"]
