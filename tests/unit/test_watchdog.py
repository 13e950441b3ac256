"""When an engine is taken for hung: after as many silent looks, whatever the clock says."""

from __future__ import annotations

import pytest

from chaosd import watchdog
from chaosd.watchdog import LOOKS, Patience, Pulse


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(watchdog, "now", lambda: at[0])
    return at


def test_silence_is_counted_in_looks(clock: list[float]) -> None:
    pulse = Pulse()
    patience = Patience(pulse)
    for _ in range(LOOKS):
        clock[0] += 0.5
        assert not patience.look()
    clock[0] += 0.5
    assert patience.look() == "no pulse for 5.5 s"


def test_any_beat_begins_anew(clock: list[float]) -> None:
    pulse = Pulse()
    patience = Patience(pulse)
    for _ in range(5 * LOOKS):
        clock[0] += 0.5
        if round(clock[0] * 2) % (LOOKS - 1) == 0:
            pulse.beat()
        assert not patience.look()


def test_a_host_that_slept_through_the_deadline_lets_the_engine_end_the_run(clock: list[float]) -> None:
    pulse = Pulse()
    pulse.set_deadline(clock[0] + 10)
    patience = Patience(pulse)
    assert not patience.look()
    clock[0] += 3600
    assert not patience.look()
    pulse.beat()
    pulse.set_deadline(0)
    for _ in range(LOOKS):
        assert not patience.look()


def test_an_engine_that_is_alive_and_overruns_its_deadline_is_hung_too(clock: list[float]) -> None:
    pulse = Pulse()
    pulse.set_deadline(clock[0] + 1)
    patience = Patience(pulse)
    said = []
    for _ in range(3 + LOOKS):
        clock[0] += 0.5
        pulse.beat()
        said.append(patience.look())
    assert said == [""] * (2 + LOOKS - 1) + ["5.0 s over its deadline", "5.5 s over its deadline"]
