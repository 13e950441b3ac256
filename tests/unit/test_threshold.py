"""Thresholds: the grammar, and when they are breached."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.checks import host
from chaosd.checks.base import Check, Sample
from chaosd.checks.base import registry as checks_registry
from chaosd.checks.figures import BYTES, NUMBER, SECONDS, Condition, Figure
from chaosd.checks.host import Host
from chaosd.checks.log import Log, Pattern
from chaosd.checks.process import Process
from chaosd.checks.ready import demand, implied
from chaosd.checks.stats import Stats, stats
from chaosd.checks.tcp import Tcp
from chaosd.checks.threshold import METRICS, Threshold, Watch, defaults, figures
from chaosd.errors import ChaosdError, UnsupportedError

CHECKS: dict[str, Check] = {
    "booking": Tcp(host="h", port=1),
    "db": Process(of="comm:db"),
    "old": Process(of="comm:old"),
    "app.log": Log(file="/x", matches=Pattern("x")),  # type: ignore[arg-type]
}


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
        ("up.value == 0", "up", "value", "==", 0.0, 0),
        ("load1 > 8", "host", "load1", ">", 8.0, 0),
        ("psi.memory.full > 20%", "host", "psi.memory.full", ">", 0.2, 0),
        ("host.memory.used > 90%", "host", "memory.used", ">", 0.9, 0),
        ("host.p95 > 1s", "host", "p95", ">", 1.0, 0),
        ("my.host.disk.free.bytes < 2GiB", "my.host", "disk.free.bytes", "<", 2.0**31, 0),
    ],
)
def test_a_threshold_is_read(text: str, check: str, metric: str, op: str, limit: float, hold: float) -> None:
    found = Threshold.parse(text)
    assert (found.check, found.metric, found.comparison.op, found.hold) == (check, metric, op, hold)
    assert found.comparison.limit == pytest.approx(limit)
    assert Threshold.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "no comparison in ''", "such as"),
        ("error_rate 50%", "no comparison", "such as"),
        ("error_rate === 50%", "unknown comparison '==='", "one of > >= < <= == !="),
        ("error_rate => 50%", "unknown comparison '=>'", "one of"),
        ("latency > 1s", "unknown metric 'latency'", "availability"),
        ("booking.eror_rate > 1%", "unknown metric 'eror_rate'", "did you mean error_rate?"),
        ("psi.memroy.full > 1%", "unknown metric 'psi.memroy.full'", "did you mean psi.memory.full?"),
        ("> 5", "unknown metric ''", "one of"),
        ("boking.p95 > 1s", "unknown check 'boking'", "one of app.log, booking, db, old"),
        (".p95 > 1s", "no name before the dot", "such as"),
        ("p95 > 800", "'800' has no unit", "us, ms, s, m, h"),
        ("p95 > 800 parsecs", "unit 'parsecs'", "us, ms, s, m, h"),
        ("p95 > ", "'' is not a duration", "such as"),
        ("p95 > 1s for", "is not a duration", "such as"),
        ("p95 > 1s for ages", "'ages' is not a duration", "such as"),
        ("error_rate > 101%", "over 100%", "such as"),
        ("error_rate > 50ms", "unit 'ms'", "%"),
        ("app.log.value > lots", "'lots' is not a number", "such as 100"),
        ("app.log.value > nan", "'nan' is not a number", "such as 100"),
        ("booking.load1 > 1", "booking does not measure load1", "one of availability"),
        ("cpus > 1", "'cpus' of which check?", "such as db.cpus"),
        ("nobody.load1 > 1", "unknown check 'nobody'", "one of"),
        ("db.rss > 5", "'5' has no unit", "MiB"),
        ("p95 > 1s > 2s", "is not a duration", "such as"),
    ],
)
def test_a_wrong_threshold_is_one_line_with_the_allowed_words(text: str, said: str, hint: str) -> None:
    with pytest.raises(ChaosdError) as caught:
        Threshold.parse(text, CHECKS)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_no_checks_at_all_is_said() -> None:
    with pytest.raises(ChaosdError, match="the scenario has no checks"):
        Threshold.parse("a.p95 > 1s", {})
    with pytest.raises(ChaosdError, match="no check measures 'rss'"):
        Threshold.parse("rss > 1GiB", {})


def test_a_figure_that_one_check_gives_needs_no_name() -> None:
    assert Threshold.parse("lines > 3", CHECKS).check == "app.log"
    box: dict[str, Check] = {"box": Host()}
    assert Threshold.parse("load1 > 3", box).check == "box"


def test_a_figure_has_one_unit_in_every_kind_of_check() -> None:
    kinds = [kind for kind in checks_registry().values() if kind.gives]
    assert len(kinds) > 5
    for kind in kinds:
        for name, figure in kind.gives.items():
            assert figures()[name].unit == figure.unit, name
            assert name not in METRICS


def test_a_check_of_the_host_is_there_when_a_threshold_asks_for_it() -> None:
    asked = [Threshold.parse("load1 > 8")]
    assert [*implied(asked, {})] == ["host"]
    assert implied(asked, {"host": Host()}) == {}
    assert implied([Threshold.parse("error_rate > 5%")], {}) == {}


def test_without_pressure_in_the_kernel_a_threshold_on_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "PRESSURE", str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"psi\.memory\.full cannot be measured here: .*No such file"):
        demand({"host": Host()}, [Threshold.parse("psi.memory.full > 20%")])
    with pytest.raises(UnsupportedError, match=r"psi\.io\.some"):
        demand({"host": Host(expect=[Condition("psi.io.some < 1%")])}, [])
    demand({"host": Host()}, defaults())
    found = Host().probe()
    assert found.ok
    assert not [name for name in found.figures if name.startswith("psi.")]


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
        found = Threshold.parse(text, CHECKS)
    except ChaosdError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.hint
        return
    assert found.metric in METRICS or found.metric in figures()
    assert str(found)


UNITS = {SECONDS: "ms", BYTES: "MiB", NUMBER: ""}


@given(
    st.sampled_from(sorted((METRICS | figures()).items())),
    st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    st.integers(0, 100),
    st.integers(0, 59),
)
def test_what_is_shown_reads_back_the_same(about: tuple[str, Figure], op: str, limit: int, hold: int) -> None:
    metric, unit = about[0], UNITS.get(about[1].unit, "%")
    found = Threshold.parse(f"api.{metric} {op} {limit}{unit} for {hold}s")
    assert Threshold.parse(str(found)) == found


def test_more_than_half_failing_is_a_breach_and_says_why() -> None:
    watch = Watch(Threshold.parse("error_rate > 50%"))
    assert watch.breached(Figures(*samples(5, 5))) == ""
    assert watch.breached(Figures(*samples(4, 6))) == (
        "error_rate > 50%: it is 60% (samples: 10, last failure: refused)"
    )


def test_no_samples_or_too_few_are_no_breach() -> None:
    for threshold in defaults():
        assert Watch(threshold).breached(Figures()) == ""
        assert Watch(threshold).breached(Figures(*samples(0, 2))) == "", "one bad start is no breach"
    for threshold in defaults()[:2]:
        assert Watch(threshold).breached(Figures(*samples(0, 3))) != "", "the next two cannot change it"


@pytest.mark.parametrize(
    ("text", "good", "bad", "crossed"),
    [
        ("error_rate > 50%", 0, 2, False),
        ("error_rate > 50%", 0, 3, True),
        ("error_rate > 50%", 1, 3, True),
        ("error_rate > 50%", 2, 2, False),
        ("error_rate > 50%", 2, 3, True),
        ("error_rate >= 40%", 0, 2, True),
        ("availability < 50%", 0, 3, True),
        ("availability < 50%", 2, 2, False),
        ("error_rate < 10%", 4, 0, False),
        ("error_rate < 10%", 5, 0, True),
        ("availability >= 60%", 3, 0, True),
        ("error_rate == 0%", 4, 0, False),
    ],
)
def test_a_share_counts_as_soon_as_it_is_decided(text: str, good: int, bad: int, crossed: bool) -> None:
    """Whatever the probes say that are missing of the first five."""
    assert Threshold.parse(text).crossed(stats(samples(good, bad))) is crossed


def test_a_figure_that_is_not_there_is_no_breach() -> None:
    refused = [Sample(i, i, False, None, "refused") for i in range(10)]
    assert Watch(Threshold.parse("p95 > 1ms")).breached(Figures(*refused)) == ""
    assert Watch(Threshold.parse("a.value < 100")).breached(Figures(*refused)) == ""


def test_for_needs_it_to_hold_without_a_break() -> None:
    at = 0.0
    watch = Watch(Threshold.parse("api.p95 > 800ms for 10s"), clock=lambda: at)
    slow, fast = Figures(*samples(9, 0, latency=0.9)), Figures(*samples(9, 0, latency=0.8))
    for at, found in ((0.0, slow), (9.9, slow), (10.0, fast), (11.0, slow), (20.9, slow)):
        assert watch.breached(found) == "", at
    at = 21.0
    assert watch.breached(slow) == "api.p95 > 800ms for 10s: it is 900ms (samples: 9)"
    assert slow.asked[0] == ("api", 5)


def test_a_single_number_is_enough_for_a_value() -> None:
    one = Figures(Sample(0, 0, True, None, "", {"value": 120.0}))
    assert Watch(Threshold.parse("queue.value >= 120")).breached(one) == (
        "queue.value >= 120: it is 120 (samples: 1)"
    )
