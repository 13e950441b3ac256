"""The daemon posts what happens; and no run notices whether anybody takes it."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemonized import PAUSE, Daemon, daemon
from hooked import Server, serving
from world import until

BREAKS = f"{PAUSE}abort_when: [host.memory.available < 100%]\n"
STORY = ["run-begun", "fault-live", "reverting", "host-restored", "run-ended"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@contextmanager
def hooked(url: str, more: str = "") -> Iterator[Daemon]:
    with daemon(f"webhook:\n  url: {url}\n{more}") as made:
        yield made


def run(made: Daemon, text: str = PAUSE, duration: str = "300ms") -> tuple[str, float]:
    """Its id, and for how long the fault was."""
    order = {"text": text.format(duration=duration), "target": f"pid:{made.sleeper()}"}
    name = made.post("/v1/runs", order)["run"]
    began = {it["phase"]: it["t"] for it in made.events(name) if it["type"] == "phase"}
    return str(name), began["revert"] - began["fault"]


def counted(made: Daemon, outcome: str) -> float:
    text = made.read("GET", "/metrics")[1].decode()
    mark = f'chaos_webhook_events_total{{outcome="{outcome}"}} '
    return float(next(line for line in text.splitlines() if line.startswith(mark)).removeprefix(mark))


def test_a_run_is_told_signed_and_in_order(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n", "ascii")
    with hooked(server.url, f"  secret: {tmp_path}/secret\n") as made:
        name, _ = run(made, BREAKS, "20s")
        until(lambda: len(server.got) == 6, "not all is told")
        until(lambda: counted(made, "delivered") == 6, "not counted")
        assert counted(made, "failed") == counted(made, "dropped") == 0
    told = server.documents()
    assert [it["kind"] for it in told] == ["run-begun", "fault-live", "threshold-breached", *STORY[2:]]
    assert {(it["run"], it["scenario"], it["host"]) for it in told} == {(name, "pause", socket.gethostname())}
    assert told[-1]["more"]["verdict"] == "aborted"
    for headers, body in server.got:
        digest = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
        assert headers["X-Chaosd-Signature-256"] == f"sha256={digest}"


def test_schedules_are_told_and_counted(server: Server) -> None:
    with hooked(server.url, "  events: [schedule]\n") as made:
        scenario = made.folder / "pause.yaml"
        scenario.write_text(PAUSE.format(duration="200ms"), "utf-8")
        words = ("often", str(scenario), "--cron", "* * * * * *", "--target", f"pid:{made.sleeper()}")
        assert made.command("schedule", "add", *words)[0] == 0
        made.post("/v1/schedules/often/resume")  # it is looked for once a minute else
        until(lambda: len(server.got) >= 2, "no schedule is told", 30)
        made.post("/v1/schedules/often/pause")
        begun, ended = server.documents()[:2]
        assert (begun["more"]["outcome"], ended["more"]["outcome"]) == ("begun", "passed")
        assert begun["run"] == ended["run"]
        text = made.read("GET", "/metrics")[1].decode()
        assert 'chaos_schedule_passed{schedule="often"} 1.0' in text
        assert 'chaos_schedule_runs_total{outcome="passed",schedule="often"}' in text


@pytest.mark.parametrize("how", ["slow", "failing", "down"])
def test_no_run_waits_for_a_server(server: Server, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    server.takes = 3.0 if how == "slow" else 0.0
    server.answers = [503] if how == "failing" else [200]
    with hooked(nobody if how == "down" else server.url) as made:
        for _ in range(2):
            _, took = run(made)
            assert took == pytest.approx(0.3, abs=0.15)
        assert counted(made, "delivered") == 0
        made.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert made.process.wait(30) == 0
        assert time.monotonic() - began < 4, "nor does the end of the daemon, for longer than 2 s"
        said = [line for line in made.log.read_text("utf-8").splitlines() if line.startswith("webhook")]
        assert len(said) == (how != "slow"), "once"


def test_what_ends_with_the_daemon_is_told(server: Server) -> None:
    with hooked(server.url) as made:
        name = made.pause(made.sleeper())
        made.wait_phase(name, "fault")
    assert [it["kind"] for it in server.documents()] == STORY
    assert json.loads(server.got[-1][1])["more"]["verdict"] == "interrupted"
