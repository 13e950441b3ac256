"""What a scenario expects is judged from what was measured, and from nothing else."""

from __future__ import annotations

import pytest

from chaosd import expectation
from chaosd.checks.base import Sample
from chaosd.checks.stats import Stats, stats
from chaosd.checks.threshold import Threshold
from chaosd.expectation import Expectations, Outcome, unmet

LIVE = 100.0


class Seen:
    """Samples of one check as a sampler would give them."""

    def __init__(self) -> None:
        self.now = LIVE
        self.samples: list[Sample] = []

    def add(self, *, ok: bool = True, value: float | None = None) -> None:
        figures = {} if value is None else {"value": value}
        self.samples.append(Sample(self.now, self.now + 0.1, ok, 0.1, "", figures))
        self.now += 0.5

    def stats(self, _name: str, window: float, *, since: float = 0.0, at_least: int = 0) -> Stats:
        """As of now."""
        found = [s for s in self.samples if s.began >= since]
        recent = [s for s in found if s.ended >= self.now - window]
        return stats(recent if len(recent) >= at_least else found[-at_least:])


def _judged(text: str, seen: Seen, samples: list[dict[str, object]]) -> Outcome:
    expected = Expectations([Threshold.parse(text)])
    for sample in samples:
        seen.add(**sample)  # type: ignore[arg-type]
        expected.look(seen, LIVE)
    (outcome,) = expected.outcomes(seen, seen.now, LIVE)
    return outcome


@pytest.mark.parametrize(
    ("text", "good", "bad", "held", "measured"),
    [
        ("api.availability > 95%", 20, 0, True, "it was 100%"),
        ("api.availability > 95%", 19, 1, False, "it was 95%"),
        ("error_rate < 5%", 20, 1, True, "it was 4.762%"),
        ("p95 < 50ms", 20, 0, False, "it was 100ms"),
        ("availability > 95%", 4, 0, False, "too few probes to tell"),
        ("availability < 100%", 40, 1, True, "it was 97.56%"),
    ],
)
def test_a_figure_over_probes_is_taken_over_all_of_the_fault(
    text: str, good: int, bad: int, held: bool, measured: str
) -> None:
    """The failures come first, so that any shorter window would not have them."""
    samples = [{"ok": False}] * bad + [{}] * good
    assert _judged(text, Seen(), samples) == Outcome(text, held, measured)


def test_probes_before_the_fault_do_not_count() -> None:
    seen = Seen()
    seen.now = LIVE - 5
    for _ in range(10):
        seen.add(ok=False, value=9)
    assert _judged("availability > 95%", seen, [{}] * 5).held
    assert _judged("api.value < 1", seen, [{}]) == Outcome("api.value < 1", False, "too few probes to tell")


@pytest.mark.parametrize(
    ("text", "values", "held", "measured"),
    [
        ("breaker.value >= 1", (0, 0, 1, 0), True, "it was 1"),
        ("breaker.value >= 1", (0, 0, 0), False, "it was 0"),
        ("queue.value > 10 for 1s", (11, 2, 11, 2), False, "it was 2"),
    ],
)
def test_what_single_probes_measure_must_have_been_so_at_some_time(
    text: str, values: tuple[int, ...], held: bool, measured: str
) -> None:
    assert _judged(text, Seen(), [{"value": value} for value in values]) == Outcome(text, held, measured)


def test_what_did_not_come_true_is_said() -> None:
    outcomes = [Outcome("a > 1", True, "it was 2"), Outcome("b > 1", False, "it was 0")]
    assert unmet(outcomes) == "expected b > 1, and it was 0"
    assert unmet(outcomes[:1]) == ""
    assert expectation.Expectations(()).outcomes(Seen(), LIVE, LIVE) == []
