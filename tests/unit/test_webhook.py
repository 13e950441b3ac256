"""Events as a server gets them: signed, in order, tried again; and a run that does not notice."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hooked import Server, serving
from told import tape

from chaosd.checks.http import Url
from chaosd.daemon import config, webhook
from chaosd.daemon.webhook import Webhook
from chaosd.errors import ChaosdError
from chaosd.journal import Record


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.05, 0.1))


@contextmanager
def hook(url: Url, **wanted: Any) -> Iterator[Webhook]:
    made = Webhook(config.Webhook(url=url, **wanted))
    made._thread.start()
    try:
        yield made
    finally:
        made.close()


def feed(records: list[Record]) -> list[Record]:
    """As the daemon tells of it."""
    return [{"run": "aa11bb", **record} for record in records]


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_events_come_in_order_and_signed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n", "ascii")
    with hook(server.url, secret=str(tmp_path / "secret")) as made:
        for record in feed(tape().records):
            made.add(record)
        until(lambda: made.outcomes["delivered"] == 6)
    documents = server.documents()
    assert [it["kind"] for it in documents] == [
        *("run-begun", "fault-live", "reverting", "host-restored", "recovered", "run-ended")
    ]
    assert documents[-1]["more"] == {"verdict": "passed", "reason": ""}
    assert documents[-1]["run"] == "aa11bb"
    assert len({it["id"] for it in documents}) == 6
    for (headers, body), document in zip(server.got, documents, strict=True):
        digest = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
        assert headers["X-Chaosd-Signature-256"] == f"sha256={digest}"
        assert (headers["X-Chaosd-Event"], headers["X-Chaosd-Delivery"]) == (document["kind"], document["id"])
        assert headers["Content-Type"] == "application/json"


def test_only_what_is_wanted_and_without_a_secret_unsigned(server: Server) -> None:
    with hook(server.url, events=["run-ended", "schedule"]) as made:
        for record in feed(tape().records):
            made.add(record)
        made.add({"type": "schedule", "at": 1.0, "schedule": "n", "says": "begins", "outcome": "begun"})
        made.add({"type": "monkey", "why_not": "not in its hours"})
        until(lambda: made.outcomes["delivered"] == 2)
    assert [it["kind"] for it in server.documents()] == ["run-ended", "schedule"]
    assert "X-Chaosd-Signature-256" not in server.got[0][0]


def test_a_server_that_fails_is_asked_again_with_the_same_id(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = [500, 429, 503, 200]
    with hook(server.url) as made:
        made.add(feed(tape().records)[0])
        until(lambda: made.outcomes["delivered"])
    assert len({it["id"] for it in server.documents()}) == 1
    assert len(server.got) == 4
    assert capsys.readouterr().err == "webhook at 127.0.0.1: status 500\nwebhook at 127.0.0.1: works again\n"


@pytest.mark.parametrize("status", [301, 400, 410])
def test_a_server_that_refuses_is_not_asked_again(server: Server, status: int) -> None:
    server.answers = [status]
    with hook(server.url) as made:
        made.add(feed(tape().records)[0])
        until(lambda: made.outcomes["failed"])
    assert len(server.got) == 1


def test_what_is_too_old_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LONGEST", 0.3)
    with serving() as server:
        url = server.url  # nobody is there afterwards
    began = time.monotonic()
    with hook(url) as made:
        made.add(feed(tape().records)[0])
        until(lambda: made.outcomes["failed"])
    assert time.monotonic() - began < 5


def test_a_server_that_is_slow_costs_the_newest_events_and_no_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.takes = 0.3
    monkeypatch.setattr(webhook, "MOST", 3)
    with hook(server.url) as made:
        began = time.monotonic()
        made.add(feed(tape().records)[0])
        until(lambda: made.queued == 0)
        for _ in range(50):
            made.add(feed(tape().records)[0])
        assert time.monotonic() - began < 0.25
        assert (made.outcomes["dropped"], made.queued) == (47, 3)
        until(lambda: made.outcomes["delivered"] == 4)
        assert made.queued == 0


def test_one_that_gives_no_answer_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.takes = 0.4
    monkeypatch.setattr(webhook, "WITHIN", 0.1)
    monkeypatch.setattr(webhook, "LONGEST", 0.2)
    with hook(server.url) as made:
        made.add(feed(tape().records)[0])
        until(lambda: made.outcomes["failed"])
        assert made.outcomes["delivered"] == 0


def test_at_the_end_what_waits_is_tried_once_more_and_no_longer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (30.0,))
    server.answers = [500, 200]
    with hook(server.url) as made:
        for record in feed(tape().records):
            made.add(record)
        until(lambda: server.got)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert made.outcomes == {"failed": 1, "delivered": 5}


def test_a_secret_that_is_not_there_or_empty(tmp_path: Path) -> None:
    wanted = config.Webhook(url=Url("http://127.0.0.1/"), secret=str(tmp_path / "none"))
    with pytest.raises(ChaosdError, match="cannot be read: No such file"):
        Webhook(wanted)
    (tmp_path / "none").write_text("\n", "ascii")
    with pytest.raises(ChaosdError, match="is empty"):
        Webhook(wanted)


def test_the_configuration_of_metrics_and_webhook(tmp_path: Path) -> None:
    place = tmp_path / "daemon.yaml"
    place.write_text("metrics: {}\nwebhook: {url: 'https://example.org/x', events: [run-ended]}\n", "ascii")
    found = config.read(place)
    assert found.metrics == config.Metrics(host="127.0.0.1", port=9469)
    assert found.webhook == config.Webhook(url=Url("https://example.org/x"), events=["run-ended"])
    place.write_text("metrics: {port: 0}\nwebhook: {url: 'ftp://x', events: [run-over]}\n", "ascii")
    with pytest.raises(ChaosdError) as caught:
        config.read(place)
    said = str(caught.value).splitlines()
    assert len(said) == 3
    assert "daemon.yaml:1: metrics.port" in said[0]
    assert all("daemon.yaml:2: webhook." in line for line in said[1:])
