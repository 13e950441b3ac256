"""What checks accept, how a probe reads a failure, and the figures over samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar

import pytest

from chaosd import document
from chaosd.checks.base import Check, Failed, Reading, Sample, now, registry
from chaosd.checks.command import Command
from chaosd.checks.http import Http, Url
from chaosd.checks.sampler import Sampler
from chaosd.checks.stats import Stats, stats
from chaosd.checks.tcp import Tcp
from chaosd.errors import ChaosdError
from chaosd.units import Duration


class Act(Check, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A check that does what the test says; without a kind it is in no registry."""

    kind: ClassVar[str] = ""
    act: Callable[[], Reading]

    def measure(self) -> Reading:
        return self.act()


def fail(error: BaseException) -> Callable[[], Reading]:
    def act() -> Reading:
        raise error

    return act


def good() -> Reading:
    return Reading("fine", {"value": 7.0})


def sample(*, ok: bool = True, latency: float | None = 0.01, ended: float = 1.0, detail: str = "") -> Sample:
    return Sample(ended - 0.01, ended, ok, latency, detail)


def build(kind: str, data: object) -> Check:
    problems = document.Problems("f.yaml")
    check = document.build(registry()[kind], data, (), problems)
    problems.raise_any()
    assert check is not None
    return check


def test_every_kind_has_a_word_and_can_describe_itself() -> None:
    assert {"http", "tcp", "command"} <= registry().keys()
    assert build("http", {"url": "http://h/x", "within": "500ms"}).describe() == (
        "GET http://h/x gives 200 within 500ms"
    )
    assert build("tcp", {"host": "h", "port": 1}).describe() == "tcp h:1 connects within 1s"
    assert build("command", {"argv": ["true"], "user": "nobody"}).describe() == (
        "true as nobody exits with 0 within 5s"
    )


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("http", {}, "url is missing"),
        ("http", {"url": "ftp://h/"}, "'ftp://h/' is not a URL"),
        ("http", {"url": "http://"}, "is not a URL"),
        ("http", {"url": "http://h:99999/"}, "is not a URL"),
        ("http", {"url": "http://h:x/"}, "is not a URL"),
        ("http", {"url": "http://[::1/"}, "is not a URL"),
        ("http", {"url": "http://a..b/"}, "is not a URL"),
        ("http", {"url": "http://u:p@h/"}, "is not a URL"),
        ("http", {"url": "http://h/a b"}, "is not a URL"),
        ("http", {"url": "http://h/\r\nX: y"}, "is not a URL"),
        ("http", {"url": 5}, "5 is not a URL"),
        ("http", {"url": "http://h/", "methd": "GET"}, "did you mean method?"),
        ("http", {"url": "http://h/", "method": "GRAB"}, "method"),
        ("http", {"url": "http://h/", "status": 99}, "status"),
        ("http", {"url": "http://h/", "headers": {"a": "b\r\nc: d"}}, "headers"),
        ("http", {"url": "http://h/", "headers": {"a b": "c"}}, "headers"),
        ("http", {"url": "http://h/", "rate": 0}, "rate"),
        ("http", {"url": "http://h/", "within": "3 weeks"}, "unit 'weeks'"),
        ("tcp", {"host": "h", "port": 0}, "port"),
        ("tcp", {"host": "", "port": 1}, "host"),
        ("command", {"argv": []}, "argv"),
        ("command", {"argv": "rm -rf"}, "argv"),
        ("command", {"argv": ["a\0b"]}, "argv"),
        ("command", {"argv": ["a"], "status": 256}, "status"),
    ],
)
def test_bad_fields_are_refused_in_words(kind: str, data: object, said: str) -> None:
    with pytest.raises(ChaosdError) as caught:
        build(kind, data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_urls_are_taken() -> None:
    for text in ("http://127.0.0.1:8000/health?x=1", "https://[::1]:9/", "http://localhost"):
        assert Url.parse(text) == text


@pytest.mark.parametrize(
    ("error", "latency", "detail"),
    [
        (Failed("status 503", answered=True), True, "status 503"),
        (Failed("not redis"), False, "not redis"),
        (ConnectionRefusedError(111, "Connection refused"), False, "Connection refused"),
        (TimeoutError(), True, "no answer within 1s"),
        (FileNotFoundError(2, "No such file or directory", "x"), False, "x: No such file or directory"),
    ],
)
def test_an_expected_failure_is_a_sample(error: Exception, latency: bool, detail: str) -> None:
    found = Act(act=fail(error)).probe()
    assert (found.ok, found.latency is not None, found.detail) == (False, latency, detail)
    assert found.began <= found.ended


def test_a_late_answer_is_no_good_answer() -> None:
    def slow() -> Reading:
        time.sleep(0.02)
        return Reading("late")

    found = Act(act=slow, within=Duration(0.01)).probe()
    assert not found.ok
    assert found.detail.endswith("over 10ms")
    assert found.latency is not None
    assert found.latency >= 0.02


def test_a_programming_error_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        Act(act=fail(ZeroDivisionError())).probe()


def test_figures_of_nothing_are_none() -> None:
    assert stats([]) == Stats()
    assert stats([]).error_rate is None


def test_figures_count_failures_and_rank_latencies() -> None:
    some = [sample(latency=n / 1000, ended=float(n)) for n in range(1, 100)]
    some.append(sample(ok=False, latency=None, ended=100.0, detail="refused"))
    found = stats(some)
    assert (found.count, found.ok, found.failed) == (100, 99, 1)
    assert found.error_rate == pytest.approx(0.01)
    assert found.availability == pytest.approx(0.99)
    assert (found.p50, found.p95, found.p99, found.max) == (0.050, 0.095, 0.099, 0.099)
    assert (found.detail, found.failure) == ("refused", "refused")
    assert found.per_second == pytest.approx(1.0)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_sampler_keeps_the_rate() -> None:
    sampler = Sampler({"a": Act(act=good, rate=50.0), "b": Act(act=fail(Failed("bad")), rate=20.0)})
    sampler.start()
    time.sleep(1.0)
    sampler.stop()
    found = sampler.snapshot(10)
    assert 40 < found["a"].per_second < 55
    assert 15 < found["b"].per_second < 22
    assert (found["a"].error_rate, found["b"].error_rate) == (0.0, 1.0)
    assert found[""].count == found["a"].count + found["b"].count
    assert found["a"].figures == {"value": 7.0}
    assert sampler.summary(10)["b"]["failure"] == "bad"


def test_stop_is_quick_while_probes_hang_and_a_hanging_probe_counts_as_failed() -> None:
    release = threading.Event()

    def hang() -> Reading:
        release.wait(20)
        return Reading("at last")

    sampler = Sampler({"h": Act(act=hang, within=Duration(0.05), rate=20.0)})
    sampler.start()
    until(lambda: sampler.stats("h", 10).count)
    assert sampler.failing(["h"], 10) == "h: the probe itself hangs (1 of 1 probes failed)"
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 0.1
    release.set()


def test_failing_says_which_and_why() -> None:
    sampler = Sampler({"a": Act(act=good), "b": Act(act=fail(Failed("status 503")))})
    assert sampler.failing(["a", "b"], 5) == "a: not measured yet; b: not measured yet"
    sampler.start()
    until(lambda: sampler.stats("a", 5).count and sampler.stats("b", 5).count)
    sampler.stop()
    assert sampler.failing(["a"], 5) == ""
    assert sampler.failing(["a", "b"], 5) == "b: status 503 (1 of 1 probes failed)"
    assert sampler.failing(["a"], 5, since=now()) == "a: not measured yet"
    time.sleep(0.05)
    assert sampler.stats("a", 0.01).count == 0
    assert sampler.failing(["a"], 0.01) == "", "a slow check is judged by its latest probe"


def test_what_breaks_a_probe_reaches_the_engine(recwarn: pytest.WarningsRecorder) -> None:
    sampler = Sampler({"a": Act(act=fail(ZeroDivisionError()))})
    threading.excepthook, former = lambda _: None, threading.excepthook
    try:
        sampler.start()

        def raised() -> bool:
            try:
                sampler.snapshot(1)
            except ZeroDivisionError:
                return True
            return False

        until(raised)
    finally:
        sampler.stop()
        threading.excepthook = former


def test_a_namespace_that_nobody_resolved_is_refused() -> None:
    with pytest.raises(ChaosdError, match="no network namespace 'blue'"):
        Sampler({"a": Tcp(host="h", port=1, netns="blue")})


def test_defaults_suit_a_run() -> None:
    assert Http(url=Url("http://h/")).rate == 5.0
    assert Command(argv=["true"]).within == 5.0
