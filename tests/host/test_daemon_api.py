"""The API by its endpoints: real runs, followed, stopped, told of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import daemonized
import pytest
from daemonized import PAUSE, Connection, Daemon
from orchestrating import ended, state_of
from world import until

SUITE = """
name: two
pause: 0s
scenarios:
  - service-pause: {duration: 300ms, set: {url: URL}}
  - service-pause: {duration: 300ms, set: {url: URL}}
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon() as made:
        yield made


@pytest.fixture(autouse=True)
def free(daemon: Daemon) -> Iterator[None]:
    """No test leaves the host to the next one with a run on it."""
    yield
    daemon.post("/v1/stop", {"all": True})


@pytest.fixture
def service() -> Iterator[str]:
    """Where something answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_there_is_to_choose_from(daemon: Daemon) -> None:
    faults = daemon.get("/v1/faults")
    assert "packets" in faults["network.loss"]
    assert daemon.get("/v1/faults/network.loss")["fields"]["percent"]["type"] == "percentage"
    status, problem = daemon.ask("GET", "/v1/faults/network.los")
    assert (status, problem["hint"]) == (404, "did you mean network.loss?")
    scenarios = {each["name"]: each for each in daemon.get("/v1/scenarios")}
    assert scenarios["service-pause"]["faults"] == ["process.pause"]
    assert daemon.read("GET", "/v1/scenarios/service-pause")[1].startswith(b"name: service-pause")
    assert daemon.post("/v1/scenarios/validate", {"scenario": "service-pause"})["name"] == "service-pause"
    status, problem = daemon.ask("POST", "/v1/scenarios/validate", {"text": "name: x\nfaults: [nothing]\n"})
    assert status == 422
    assert "duration is missing" in problem["error"]
    assert "scenario:2: faults.0: unknown fault 'nothing'" in problem["error"]


def test_capabilities_are_what_doctor_finds(daemon: Daemon) -> None:
    told = daemon.get("/v1/capabilities")
    by_command = json.loads(daemon.command("doctor", "--json")[1])
    assert told["faults"] == by_command["faults"]
    assert told["kernel"] == os.uname().release


def test_a_run_is_planned_done_and_told_of(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    order = {"text": PAUSE.format(duration="300ms"), "target": f"pid:{pid}"}
    assert daemon.post("/v1/plans", order)["faults"][0]["target"] == f"pid:{pid}"
    assert not daemon.journals()
    run = daemon.post("/v1/runs", order)["run"]
    live = daemon.events(run)
    assert [record["phase"] for record in live if record["type"] == "phase"] == [
        "baseline", "inject", "fault", "revert",
    ]  # fmt: skip
    assert live[-1]["verdict"] == "passed"
    assert daemon.events(run) == live, "the same from its journal"
    assert daemon.get(f"/v1/runs/{run}")["verdict"] == "passed"
    assert daemon.get("/v1/history?limit=1&scenario=pause")[0]["run"] == run
    assert daemon.get("/v1/history?scenario=nothing") == []
    other = daemon.pause(pid, "300ms")
    daemon.events(other)
    for form, begins in (("html", "<!doctype html>"), ("json", "{"), ("junit", "<?xml"), ("markdown", "#")):
        text = daemon.read("GET", f"/v1/runs/{run}/report?format={form}")[1].decode()
        assert text.lower().startswith(begins), text[:100]
    compared = daemon.get(f"/v1/runs/{run}/compare?against={other}&format=json")
    assert (compared["run"]["run"], compared["other"]["run"]) == (run, other)


def test_a_run_is_seen_while_it_goes_on_and_stopped(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    everything = daemon.open("GET", "/v1/events")
    run = daemon.pause(pid)
    daemon.wait_phase(run, "fault")
    until(lambda: state_of(pid) == "T", "not paused")
    (live,) = daemon.get("/v1/status")["live"]
    assert (live["run"], live["alive"]) == (run, True)
    assert any(
        f"process {pid}" in says or f"pid:{pid}" in says or str(pid) in says for says in live["open_edits"]
    )
    status, problem = daemon.ask("POST", "/v1/runs", {"scenario": "service-pause", "target": f"pid:{pid}"})
    assert status == 409
    assert run in problem["error"], "who holds the host"
    assert daemon.post(f"/v1/runs/{run}/stop") == {"runs": [run], "stuck": []}
    assert state_of(pid) == "S"
    assert not daemon.journals()
    assert daemon.get(f"/v1/runs/{run}")["verdict"] == "interrupted"
    told: list[str] = []
    while not told or told[-1] != "end":
        record = json.loads(everything.readline())
        assert record["run"] == run
        told.append(record["type"])
    assert told[0] == "run"
    everything.close()


def test_server_sent_events(daemon: Daemon) -> None:
    run = daemon.pause(daemon.sleeper(), "300ms")
    connection = Connection(daemon.socket)
    connection.request("GET", f"/v1/runs/{run}/events", headers={"accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, rest = answer.read().split(b"\n\n")
    assert not rest
    assert json.loads(frames[0].removeprefix(b"data: "))["type"] == "run"
    assert json.loads(frames[-1].removeprefix(b"data: "))["type"] == "end"


def test_a_run_of_others_is_seen_stopped_and_put_back(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    words = ("inject", "process.pause", "--target", f"pid:{pid}", "--duration", "60s")
    argv = [sys.executable, "-m", "chaosd", *words]
    alone = daemon.env | {"CHAOSD_ALONE": "1"}
    for path, way in (("/v1/stop", "stop"), ("/v1/revert", "kill"), ("/v1/stop", "all")):
        process = subprocess.Popen(argv, env=alone, stdout=subprocess.DEVNULL)
        until(lambda: state_of(pid) == "T", "not paused", 30)
        (live,) = daemon.get("/v1/status")["live"]
        assert daemon.get(f"/v1/runs/{live['run']}")["scenario"] == "process.pause"
        so_far = daemon.events(live["run"])
        assert (so_far[0]["type"], so_far[0]["run"]) == ("run", live["run"])
        if way == "kill":
            # its watchdog must not be faster
            process.send_signal(signal.SIGSTOP)
            assert live["run"] in daemon.post(path, {"run": live["run"]})["done"]
        else:
            body = {"all": True} if way == "all" else {"run": live["run"]}
            assert daemon.post(path, body)["runs"] == [live["run"]]
        assert state_of(pid) == "S"
        process.kill()
        process.wait()


@pytest.mark.parametrize("alone", [False, True], ids=["through", "alone"])
def test_a_target_that_is_started_again_is_followed_if_asked_to(daemon: Daemon, alone: bool) -> None:
    comm = f"again{os.getpid()}"
    words = ("inject", "process.pause", "--target", f"comm:{comm}", "--duration", "60s", "--json")
    with daemon.called(comm) as first:
        process = daemon.begin(*words, "--on-restart", "follow", alone=alone)
        until(lambda: state_of(first) == "T", "not paused", 60)
    with daemon.called(comm) as second:
        until(lambda: state_of(second) == "T", "not followed", 30)
        assert daemon.command("stop")[0] == 0
        status, out = ended(process)
        told = json.loads(out)
        assert (status, told["plan"]["on_restart"]) == (6, "follow")
        assert [*told["followed"].values()] == [1]
        assert state_of(second) == "S"
        order = {"scenario": "service-pause", "target": f"comm:{comm}", "set": {"url": "http://127.0.0.1:1/"}}
        assert daemon.post("/v1/plans", order | {"on_restart": "follow"})["on_restart"] == "follow"
        assert daemon.post("/v1/plans", order)["on_restart"] == "end"


def test_an_engine_that_is_killed_is_told_of_to_the_end(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    run = daemon.pause(pid)
    daemon.wait_phase(run, "fault")
    os.kill(daemon.get(f"/v1/runs/{run}")["process"]["pid"], signal.SIGKILL)
    told = daemon.events(run)
    assert told[-1]["verdict"] == "killed", "the watchdog has put it back"
    assert state_of(pid) == "S"
    until(lambda: daemon.get("/v1/status")["live"] == [], "still live")


def test_a_suite_is_run_followed_and_stopped(daemon: Daemon, service: str) -> None:
    text = SUITE.replace("URL", service)
    target = {"target": f"pid:{daemon.sleeper()}"}
    begun = daemon.post("/v1/suites", {"text": text, **target})
    assert (begun["name"], begun["scenarios"]) == ("two", ["service-pause", "service-pause"])
    lines = daemon.read("GET", f"/v1/suites/{begun['suite']}/events")[1].splitlines()
    told = [json.loads(line) for line in lines]
    kinds = ["suite", "begins", "run", "ended", "begins", "run", "ended", "suite-ended"]
    assert [record["type"] for record in told] == kinds
    assert told[-1]["exit"] == 0
    assert {row["run"] for row in daemon.get("/v1/history?limit=2")} == {told[2]["run"], told[5]["run"]}
    long = {"text": text.replace("300ms", "60s"), **target}
    begun = daemon.post("/v1/suites", long)
    assert daemon.ask("POST", "/v1/suites", long)[0] == 409
    until(lambda: [v["phase"] for v in daemon.get("/v1/status")["live"]] == ["fault"], "no fault", 60)
    daemon.post(f"/v1/suites/{begun['suite']}/stop")
    assert not daemon.journals()
    lines = daemon.read("GET", f"/v1/suites/{begun['suite']}/events")[1].splitlines()
    assert json.loads(lines[-1])["exit"] == 6
    for item in ("[]", "[[1]]", "5", "{5: {}}", "[1, {}]", "null", "{a: {}, b: {}}"):
        wrong = {"text": f"name: x\nscenarios: [{item}]\n", "files": {"a": "name: a\n", "b": ""}, **target}
        assert daemon.ask("POST", "/v1/suites", wrong)[0] in (404, 422), item
    status, problem = daemon.ask("POST", "/v1/suites", {"category": "netwrk", **target})
    assert (status, problem["hint"]) == (422, "did you mean network?")


def test_commands_of_root_go_through_the_daemon_and_look_the_same(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    words = ("inject", "process.pause", "--target", f"pid:{pid}", "--duration", "300ms")
    status, through = daemon.command(*words)
    own = daemon.command("report", "--json")[1]
    assert '"passed"' in own
    daemon.env["CHAOSD_ALONE"] = "1"
    try:
        alone_status, alone = daemon.command(*words)
    finally:
        del daemon.env["CHAOSD_ALONE"]
    assert (status, alone_status) == (0, 0)

    def still(text: str) -> list[str]:
        moving = ("run ", "restored", "host ")  # ids and times
        return [line for line in text.splitlines() if not any(word in line for word in moving)]

    assert still(through) == still(alone)
    wrong = ("inject", "network.delai", "--target", f"pid:{pid}", "--duration", "300ms")
    words_of_its_own = "chaosd: unknown fault 'network.delai'\n  hint: did you mean network.delay?\n"
    assert daemon.command(*wrong) == (2, words_of_its_own)


def test_the_description_is_served_and_its_page_loads_nothing(daemon: Daemon) -> None:
    assert "/v1/runs/{run}/report" in daemon.get("/openapi.json")["paths"]
    page = daemon.read("GET", "/docs")[1].decode()
    assert "POST /v1/runs" in page
    assert "src=" not in page
    assert "<script" not in page
