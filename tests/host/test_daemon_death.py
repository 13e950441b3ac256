"""Whatever ends the daemon, in whatever phase of a run: the host is as before. And clients that vanish."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import daemonized
import dump
import pytest
import world
from daemonized import Connection, Daemon
from world import until

SCENARIO = """
name: several
duration: 5s
blast_radius: service-cluster
steady_state: [{{tcp: {{host: 127.0.0.1, port: {port}, within: 1s, rate: 10}}}}]
faults:
  - network.loss: {{percent: 5%, target: "dev:{dev}@{ns}"}}
  - process.pause: {{target: "pid:{a}"}}
  - cpu.throttle: {{percent: 50%, target: "pid:{b}"}}
  - cpu.pin: {{cpus: [0], target: "pid:{b}"}}
"""
PHASES = {
    "baseline": {"type": "phase", "phase": "baseline"},
    "inject": {"type": "applied"},
    "fault": {"type": "phase", "phase": "fault"},
    "revert": {"type": "reverted"},
    "recover": {"type": "phase", "phase": "recover"},
}


class Stage:
    """A daemon; a namespace with a wire, two processes in it, and something that answers."""

    def __init__(self, stack: ExitStack, daemon: Daemon) -> None:
        self.daemon = daemon
        self.ns, other = (stack.enter_context(world.netns()) for _ in range(2))
        wire, _ = stack.enter_context(world.veth(self.ns, other))
        sleeper = world.python("import time; time.sleep(600)")
        self.pids = [stack.enter_context(world.spawn(sleeper, ns=self.ns)).pid for _ in range(2)]
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        a, b = self.pids
        self.text = SCENARIO.format(port=listener.getsockname()[1], dev=wire.name, ns=self.ns.path, a=a, b=b)
        self.before = self.host()

    def host(self) -> dict[str, str]:
        found = dump.network(self.ns)
        for pid in self.pids:
            found |= dump.process(pid)
        return found

    def start(self, duration: str = "5s") -> str:
        return str(self.daemon.post("/v1/runs", {"text": self.text, "duration": duration})["run"])

    def reach(self, run: str, wanted: dict[str, str]) -> None:
        """Follow the run to the first record that is like this."""
        with self.daemon.open("GET", f"/v1/runs/{run}/events") as answer:
            records = []
            while line := answer.readline():
                records.append(json.loads(line))
                if wanted.items() <= records[-1].items():
                    return
        raise AssertionError(f"it never came to {wanted}, but ended so: {records[-3:]}")

    def assert_restored(self) -> None:
        until(lambda: not self.daemon.family(), "processes are left", 60)
        assert self.host() == self.before
        assert not self.daemon.journals()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack, stack.enter_context(daemonized.daemon()))


@pytest.mark.parametrize("phase", PHASES)
def test_the_daemon_is_killed_and_the_host_is_as_before(stage: Stage, phase: str) -> None:
    run = stage.start("500ms" if phase in ("revert", "recover") else "5s")
    stage.reach(run, PHASES[phase])
    if phase == "fault":
        assert stage.host() != stage.before
    stage.daemon.process.kill()
    stage.daemon.process.wait()
    stage.assert_restored()
    stage.daemon.start()
    assert stage.daemon.get(f"/v1/runs/{run}")["verdict"], "the next daemon knows how it ended"


@pytest.mark.parametrize("phase", ["inject", "fault", "recover"])
def test_the_daemon_is_asked_to_end_and_puts_everything_back_first(stage: Stage, phase: str) -> None:
    run = stage.start("500ms" if phase in ("revert", "recover") else "5s")
    stage.reach(run, PHASES[phase])
    stage.daemon.process.send_signal(signal.SIGTERM)
    assert stage.daemon.process.wait(30) == 0
    assert stage.host() == stage.before, "when it has ended, not some time later"
    stage.assert_restored()
    stage.daemon.start()
    assert stage.daemon.get(f"/v1/runs/{run}")["verdict"] in ("interrupted", "inconclusive")


def test_the_zygote_is_killed_and_the_daemon_ends_for_a_new_one(stage: Stage) -> None:
    run = stage.start()
    stage.reach(run, PHASES["fault"])
    os.kill(stage.daemon.names()["chaosd-zygote"], signal.SIGKILL)
    assert stage.daemon.process.wait(30) == 1, "systemd starts what has failed anew"
    assert stage.host() == stage.before, "when it has ended, not some time later"
    said = stage.daemon.log.read_text("utf-8").splitlines()[-1]
    assert said == "chaosd: the process that engines are forked from has died, and so every run was ended"
    stage.assert_restored()
    stage.daemon.start()
    assert stage.daemon.get(f"/v1/runs/{run}")["verdict"] == "interrupted"
    again = stage.start("300ms")
    assert stage.daemon.events(again)[-1]["verdict"] == "inconclusive", "nobody sends a packet"


def test_a_client_that_vanishes_does_not_end_its_run(stage: Stage) -> None:
    body = json.dumps({"text": stage.text, "duration": "300ms"})
    connection = Connection(stage.daemon.socket)
    connection.request("POST", "/v1/runs", body)
    connection.close()
    until(lambda: stage.daemon.get("/v1/status")["live"], "not begun")
    (live,) = stage.daemon.get("/v1/status")["live"]
    follower = stage.daemon.open("GET", f"/v1/runs/{live['run']}/events")
    assert json.loads(follower.readline())["type"] == "run"
    follower.close()
    assert stage.daemon.events(live["run"])[-1]["verdict"] == "inconclusive", "nobody sends a packet"


def test_who_reads_slowly_or_not_at_all_slows_nothing(stage: Stage) -> None:
    dawdlers = [stage.daemon.open("GET", "/v1/events")]
    run = stage.start("1s")
    dawdlers += [stage.daemon.open("GET", f"/v1/runs/{run}/events") for _ in range(20)]
    told = stage.daemon.events(run)
    assert told[-1]["verdict"] == "inconclusive", "nobody sends a packet"
    assert took(told) < 1.5
    for dawdler in dawdlers[1:]:
        assert [json.loads(line) for line in dawdler.read().splitlines()] == told, "late, and all of it"
    dawdlers[0].close()


def test_a_daemon_that_is_stopped_does_not_stop_its_run(stage: Stage) -> None:
    run = stage.start("2s")
    stage.reach(run, PHASES["fault"])
    stage.daemon.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not stage.daemon.journals(), "not ended by itself", 30)
        assert stage.host() == stage.before
    finally:
        stage.daemon.process.send_signal(signal.SIGCONT)
    told = stage.daemon.events(run)
    assert told[-1]["verdict"] == "inconclusive", "nobody sends a packet"
    assert took(told) < 2.5


def took(told: list[dict[str, Any]]) -> float:
    """For how long the fault was, in seconds."""
    began = {record["phase"]: record["t"] for record in told if record["type"] == "phase"}
    return float(began["revert"] - began["fault"])


def test_an_idle_daemon_ends_at_once_though_somebody_listens(stage: Stage) -> None:
    listener = stage.daemon.open("GET", "/v1/events")
    began = time.monotonic()
    stage.daemon.process.send_signal(signal.SIGTERM)
    assert stage.daemon.process.wait(30) == 0
    assert time.monotonic() - began < 2
    assert listener.read() == b""
