"""Thresholds: the grammar, and when they are breached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.checks.base import Sample
from chaosd.checks.stats import Stats, stats
from chaosd.checks.threshold import DEFAULTS, METRICS, Threshold, Watch
from chaosd.errors import ChaosdError


class Figures:
    """Answers what the test puts in."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = list(samples)
        self.asked: list[tuple[str, int]] = []

    def stats(self, name: str, window: float, *, since: float = 0.0, at_least: int = 0) -> Stats:
        self.asked.append((name, at_least))
        return stats(self.samples)


def samples(good: int, bad: int, latency: float = 0.01) -> list[Sample]:
    return [Sample(i, i + 0.1, i >= bad, latency, "refused" if i < bad else "") for i in range(good + bad)]


@pytest.mark.parametrize(
    ("text", "check", "metric", "op", "limit", "hold"),
    [
        ("error_rate > 50%", "", "error_rate", ">", 0.5, 0),
        ("error_rate>50", "", "error_rate", ">", 0.5, 0),
        ("  availability   < 99.9 % ", "", "availability", "<", 0.999, 0),
        ("p95 > 800ms for 10s", "", "p95", ">", 0.8, 10),
        ("booking.p99 >= 2s", "booking", "p99", ">=", 2.0, 0),
        ("a.b.max <= 1m for 1h", "a.b", "max", "<=", 60.0, 3600),
        ("queue for jobs.value > -1.5e3", "queue for jobs", "value", ">", -1500.0, 0),
    ],
)
def test_a_threshold_is_read(text: str, check: str, metric: str, op: str, limit: float, hold: float) -> None:
    found = Threshold.parse(text)
    assert (found.check, found.metric, found.op, found.hold) == (check, metric, op, hold)
    assert found.limit == pytest.approx(limit)
    assert Threshold.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "no comparison in ''", "such as"),
        ("error_rate 50%", "no comparison", "such as"),
        ("error_rate == 50%", "unknown comparison '=='", "one of > >= < <="),
        ("error_rate => 50%", "unknown comparison '=>'", "one of"),
        ("latency > 1s", "unknown metric 'latency'", "error_rate, availability, p50, p95, p99, max, value"),
        ("> 5", "unknown metric ''", "one of"),
        ("boking.p95 > 1s", "unknown check 'boking'", "one of booking, db"),
        (".p95 > 1s", "no name before the dot", "such as"),
        ("p95 > 800", "'800' has no unit", "us, ms, s, m, h"),
        ("p95 > 800 parsecs", "unit 'parsecs'", "us, ms, s, m, h"),
        ("p95 > ", "'' is not a duration", "such as"),
        ("p95 > 1s for", "is not a duration", "such as"),
        ("p95 > 1s for ages", "'ages' is not a duration", "such as"),
        ("error_rate > 101%", "over 100%", "such as"),
        ("error_rate > 50ms", "unit 'ms'", "%"),
        ("db.value > lots", "'lots' is not a number", "such as 100"),
        ("db.value > nan", "'nan' is not a number", "such as 100"),
        ("p95 > 1s > 2s", "is not a duration", "such as"),
    ],
)
def test_a_wrong_threshold_is_one_line_with_the_allowed_words(text: str, said: str, hint: str) -> None:
    with pytest.raises(ChaosdError) as caught:
        Threshold.parse(text, names=["booking", "db"])
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_no_checks_at_all_is_said() -> None:
    with pytest.raises(ChaosdError, match="the scenario has no checks"):
        Threshold.parse("a.p95 > 1s", names=[])


PIECES = [
    *METRICS,
    "booking",
    ".",
    " ",
    ">",
    ">=",
    "<",
    "<=",
    "=",
    "for",
    "50",
    "%",
    "ms",
    "s",
    "1e9",
    "-",
    "\n",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = Threshold.parse(text, names=["booking"])
    except ChaosdError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.hint
        return
    assert found.metric in METRICS
    assert str(found)


@given(
    st.sampled_from(sorted(METRICS)),
    st.sampled_from([">", ">=", "<", "<="]),
    st.integers(0, 100),
    st.integers(0, 59),
)
def test_what_is_shown_reads_back_the_same(metric: str, op: str, limit: int, hold: int) -> None:
    unit = {"p50": "ms", "p95": "ms", "p99": "ms", "max": "ms", "value": ""}.get(metric, "%")
    found = Threshold.parse(f"api.{metric} {op} {limit}{unit} for {hold}s")
    assert Threshold.parse(str(found)) == found


def test_more_than_half_failing_is_a_breach_and_says_why() -> None:
    watch = Watch(Threshold.parse("error_rate > 50%"))
    assert watch.breached(Figures(*samples(5, 5))) == ""
    assert watch.breached(Figures(*samples(4, 6))) == (
        "error_rate > 50%: it is 60% (samples: 10, last failure: refused)"
    )


def test_no_samples_or_too_few_are_no_breach() -> None:
    for threshold in DEFAULTS:
        assert Watch(threshold).breached(Figures()) == ""
        assert Watch(threshold).breached(Figures(*samples(0, 4))) == "", "one bad start is no breach"
        assert Watch(threshold).breached(Figures(*samples(0, 5))) != ""


def test_a_figure_that_is_not_there_is_no_breach() -> None:
    refused = [Sample(i, i, False, None, "refused") for i in range(10)]
    assert Watch(Threshold.parse("p95 > 1ms")).breached(Figures(*refused)) == ""
    assert Watch(Threshold.parse("value < 100")).breached(Figures(*refused)) == ""


def test_for_needs_it_to_hold_without_a_break() -> None:
    at = 0.0
    watch = Watch(Threshold.parse("api.p95 > 800ms for 10s"), clock=lambda: at)
    slow, fast = Figures(*samples(9, 0, latency=0.9)), Figures(*samples(9, 0, latency=0.8))
    for at, figures in ((0.0, slow), (9.9, slow), (10.0, fast), (11.0, slow), (20.9, slow)):
        assert watch.breached(figures) == "", at
    at = 21.0
    assert watch.breached(slow) == "api.p95 > 800ms for 10s: it is 900ms (samples: 9)"
    assert slow.asked[0] == ("api", 5)


def test_a_single_number_is_enough_for_a_value() -> None:
    one = Figures(Sample(0, 0, True, None, "", 120.0))
    assert Watch(Threshold.parse("queue.value >= 120")).breached(one) == (
        "queue.value >= 120: it is 120 (samples: 1)"
    )
