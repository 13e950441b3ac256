"""Schedules and the monkey inside the daemon: they run, are seen, rest, and make way for others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import daemonized
import pytest
from daemonized import PAUSE, Daemon
from orchestrating import state_of
from world import until

MONKEY = """
every: 1s
probability: 100%
hours: "00:00-24:00"
days: mon-sun
cooldown: 0s
scenarios: [{scenario}]
targets: {{comm: [{comm}]}}
"""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon() as made:
        yield made


def schedule(daemon: Daemon, name: str, pid: int, *, missed: str = "skip", duration: str = "300ms") -> None:
    scenario = daemon.folder / f"{name}.yaml"
    scenario.write_text(PAUSE.format(duration=duration), "utf-8")
    words = ("--cron", "* * * * * *", "--target", f"pid:{pid}", "--missed", missed)
    status, out = daemon.command("schedule", "add", name, str(scenario), *words)
    assert status == 0, out


def lines(daemon: Daemon, path: str) -> Iterator[dict[str, Any]]:
    with daemon.open("GET", path) as answer:
        while line := answer.readline():
            yield json.loads(line)


def test_what_is_due_is_run_seen_and_rests_when_told_to(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    told = lines(daemon, "/v1/events")
    schedule(daemon, "often", pid)
    daemon.post("/v1/schedules/often/resume")  # it is looked for once a minute else
    said = [next(each["says"] for each in told if each["type"] == "schedule") for _ in range(4)]
    assert said == ["begins", "ended: passed", "begins", "ended: passed"]
    (row,) = daemon.get("/v1/status")["schedules"]
    assert (row["name"], row["target"], row["paused"]) == ("often", f"pid:{pid}", False)
    assert "schedule often: " in daemon.command("status")[1]
    assert daemon.post("/v1/schedules/often/pause")["paused"]
    until(lambda: not daemon.get("/v1/status")["live"], "still live")
    count = len(daemon.get("/v1/history"))
    with pytest.raises(AssertionError, match="waited"):
        until(lambda: len(daemon.get("/v1/history")) > count, "waited", 3)
    assert daemon.get("/v1/schedules")[0]["paused"]
    assert daemon.ask("POST", "/v1/schedules/oftn/pause", {})[0] == 404
    status, out = daemon.command("schedule", "run")
    assert (status, "another process already does this" in out) == (2, True)


@pytest.mark.parametrize("missed", ["skip", "run-once"])
def test_what_is_due_while_another_run_holds_the_host(daemon: Daemon, missed: str) -> None:
    run = daemon.pause(daemon.sleeper())
    daemon.wait_phase(run, "fault")
    told = lines(daemon, "/v1/events")
    schedule(daemon, "often", daemon.sleeper(), missed=missed)
    daemon.post("/v1/schedules/often/resume")
    first = next(each for each in told if each["type"] == "schedule")
    assert f"another run holds this host: {run}" in first["says"]
    if missed == "skip":
        again = next(each for each in told if each["type"] == "schedule")
        assert run in again["says"], "skipped, and so is the next one"
    daemon.post(f"/v1/runs/{run}/stop")
    after = next(each for each in told if each["type"] == "schedule" and run not in each["says"])
    assert after["says"] == "begins"


def test_the_monkey_acts_is_seen_and_rests(tmp_path: Path) -> None:
    with daemonized.daemon() as plain:
        status, problem = plain.ask("POST", "/v1/monkey/pause", {})
        assert (status, problem["error"]) == (422, "this daemon has no monkey")
    place = tmp_path / "ape.yaml"
    (tmp_path / "brief.yaml").write_text(PAUSE.format(duration="300ms"), "utf-8")
    place.write_text(MONKEY.format(scenario="brief.yaml", comm="nothing-like-it"), "utf-8")
    with daemonized.daemon(f"monkey: {place}\n") as daemon:
        told = lines(daemon, "/v1/events")
        assert "no eligible target" in next(told)["why_not"]
        comm = f"prey{os.getpid()}"
        with daemon.called(comm) as prey:
            # read anew at each tick
            place.write_text(MONKEY.format(scenario="brief.yaml", comm=comm), "utf-8")
            chosen = next(each for each in told if each["type"] == "monkey" and each["target"])
            assert chosen["scenario"].endswith("brief.yaml")
            run = next(each for each in told if each["type"] == "run")
            assert run["plan"]["faults"][0]["target"] == chosen["target"]
            end = next(each for each in told if each["type"] == "end")
            assert end["verdict"] == "passed"
            monkey = daemon.get("/v1/status")["monkey"]
            assert (monkey["name"], monkey["paused"]) == ("ape", False)
            assert "monkey ape: next tick" in daemon.command("status")[1]
            assert daemon.post("/v1/monkey/pause")["paused"]
            until(lambda: not daemon.get("/v1/status")["live"], "still live")
            count = len(daemon.get("/v1/history"))
            with pytest.raises(AssertionError, match="waited"):
                until(lambda: len(daemon.get("/v1/history")) > count, "waited", 3)
            assert not daemon.post("/v1/monkey/resume")["paused"]
            until(lambda: len(daemon.get("/v1/history")) > count, "does not act again", 30)
            daemon.post("/v1/monkey/pause")
            until(lambda: not daemon.get("/v1/status")["live"], "still live")
            assert state_of(prey) == "S"


def test_a_monkey_that_is_wrong_is_refused_at_the_start(tmp_path: Path) -> None:
    place = tmp_path / "ape.yaml"
    place.write_text("scenarios: [no-such-thing]\ntargets: {comm: [x]}\n", "utf-8")
    with daemonized.daemon() as daemon:
        other = daemon.folder / "other.yaml"
        other.write_text(f"socket: {daemon.folder}/other.sock\nmonkey: {place}\n", "utf-8")
        status, out = daemon.command("daemon", "--config", str(other))
        assert status == 2
        assert "ape.yaml:1: scenarios.0: unknown scenario 'no-such-thing'" in out
