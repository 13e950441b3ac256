"""Experiments of the Chaos Toolkit, by its own command, with real faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedding
import pytest
import traffic
import world
from embedding import Program
from world import until

from chaosd.faults._queue import NETEM_OR_RELAY
from chaosd.kernel.netns import NetnsRef

CHAOS = str(Path(sys.executable).with_name("chaos"))
PORT = 7001


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Program]:
    with embedding.program(tmp_path) as made:
        yield made
        made.assert_restored()


def activity(kind: str, func: str, **more: Any) -> dict[str, Any]:
    module = "probes" if kind == "probe" else "actions"
    provider = {"type": "python", "module": f"chaosd.chaostoolkit.{module}", "func": func}
    extra = {key: more.pop(key) for key in ("tolerance", "pauses") if key in more}
    return {"type": kind, "name": func, "provider": provider | {"arguments": more}, **extra}


def trip(ns: NetnsRef, folder: Path) -> dict[str, Any]:
    """A probe: the milliseconds of a round trip."""
    program = folder / "trip.py"
    program.write_text(
        "import socket, time\n"
        "end = socket.create_connection(('127.0.0.1', 7001)); end.send(b'x'); end.recv(1)\n"
        "begun = time.monotonic(); end.send(b'x'); end.recv(1)\n"
        "print(int((time.monotonic() - begun) * 1000))\n",
        "utf-8",
    )
    enter = ["nsenter", f"--net={ns.path}", sys.executable, str(program)]
    return {
        "type": "probe",
        "name": "a round trip",
        "provider": {"type": "process", "path": enter[0], "arguments": " ".join(enter[1:])},
    }


class Experiment:
    """One that ``chaos run`` is given."""

    def __init__(self, here: Program, **parts: Any) -> None:
        self.here, self.journal = here, here.folder / "journal.json"
        text = {"title": "x", "description": "x", "method": [], "rollbacks": []} | parts
        (here.folder / "experiment.json").write_text(json.dumps(text), "utf-8")

    def start(self) -> subprocess.Popen[str]:
        options = ["--no-version-check", "--no-log-file"]
        return self.here.start(
            CHAOS,
            *options,
            "run",
            "--rollback-strategy=always",
            f"--journal-path={self.journal}",
            "experiment.json",
        )

    def run(self) -> dict[str, Any]:
        process = self.start()
        out, errors = process.communicate(timeout=110)
        assert self.journal.exists(), out + errors
        return dict(json.loads(self.journal.read_text("utf-8")))


def outputs(journal: dict[str, Any], part: str = "run") -> dict[str, Any]:
    return {done["activity"]["name"]: done.get("exception") or done.get("output") for done in journal[part]}


def test_an_experiment_with_a_delay_and_its_evidence_in_the_journal(here: Program) -> None:
    world.need(*(need for rung in NETEM_OR_RELAY[-1:] for need in rung.needs))
    with world.netns() as ns, traffic.echo(ns, PORT):
        tolerance = {"type": "regex", "target": "stdout", "pattern": "^\\d\\d?\n$"}
        quick = trip(ns, here.folder) | {"tolerance": tolerance}
        journal = Experiment(
            here,
            **{"steady-state-hypothesis": {"title": "quick", "probes": [quick]}},
            method=[
                activity("probe", "can_inject", fault="network.delay"),
                activity("action", "inject_fault", fault="network.delay", target=f"netns:{ns.path}",
                         fields={"delay": "200ms", "ports": [PORT]}),
                activity("probe", "faults_are_live"),
                trip(ns, here.folder),
                activity("action", "lift_faults"),
                activity("probe", "verdict"),
                activity("probe", "hits"),
            ],
            rollbacks=[activity("action", "lift_faults")],
        ).run()  # fmt: skip
    assert (journal["status"], journal["deviated"]) == ("completed", False)
    told = outputs(journal)
    assert told["can_inject"] is True
    assert told["faults_are_live"] is True
    assert 190 <= int(told["a round trip"]["stdout"]) <= 320
    assert told["inject_fault"]["faults"][0]["fault"] == "network.delay"
    lifted = told["lift_faults"]
    assert lifted["verdict"] == told["verdict"] == "passed"
    assert lifted["injected"] == told["hits"] > 0
    assert lifted["evidence"][0]["unit"] == "packets"
    assert "host restored" in lifted["says"]
    assert outputs(journal, "rollbacks")["lift_faults"] == lifted, (
        "lifting again does nothing, and tells the same"
    )


def test_a_whole_scenario_is_one_action(here: Program) -> None:
    scenario = {"name": "x", "faults": ["process.pause"], "duration": "200ms"}
    journal = Experiment(
        here, method=[activity("action", "run_scenario", scenario=scenario, target=here.target)]
    ).run()
    assert outputs(journal)["run_scenario"]["verdict"] == "passed"


def test_a_fault_that_hit_nothing_is_an_action_that_failed(here: Program) -> None:
    with world.netns() as ns:
        loss = {"fault": "network.loss", "target": f"netns:{ns.path}", "fields": {"percent": "100%"}}
        journal = Experiment(
            here, method=[activity("action", "inject_fault", **loss), activity("action", "lift_faults")]
        ).run()
        assert [done["status"] for done in journal["run"]] == ["succeeded", "failed"]
        assert "hit nothing" in str(outputs(journal)["lift_faults"])
        journal = Experiment(
            here,
            method=[
                activity("action", "inject_fault", **loss),
                activity("action", "lift_faults", allow_miss=True),
            ],
        ).run()
        assert outputs(journal)["lift_faults"]["verdict"] == "inconclusive"


def test_what_is_wrong_is_an_action_that_failed_with_the_reason(here: Program) -> None:
    fields = {"syscalls": ["read"], "errno": "EIO", "mechanism": "notify"}
    wrong = activity("action", "inject_fault", fault="syscall.error", target=here.target, fields=fields)
    journal = Experiment(here, method=[wrong]).run()
    assert "only of a program that it starts itself" in str(outputs(journal)["inject_fault"])


def test_the_control_lifts_what_an_experiment_leaves(here: Program) -> None:
    control = {"name": "chaosd", "provider": {"type": "python", "module": "chaosd.chaostoolkit.controls"}}
    journal = Experiment(
        here,
        controls=[control],
        method=[activity("action", "inject_fault", fault="process.pause", target=here.target)],
    ).run()
    assert journal["chaosd"]["verdict"] == "passed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_chaos_is_killed_in_the_middle(here: Program, number: signal.Signals) -> None:
    pausing = activity("action", "inject_fault", fault="process.pause", target=here.target, duration="100s")
    process = Experiment(here, method=[pausing | {"pauses": {"after": 20}}]).start()
    until(here.paused, "never live", 60)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    here.assert_restored()


def test_the_experiment_of_the_documentation(here: Program) -> None:
    page = (embedding.ROOT / "docs/chaos-toolkit.md").read_text("utf-8")
    text = page.partition("```json\n")[2].partition("```")[0].replace("container:api", here.target)
    parts = json.loads(text)
    journal = Experiment(here, **parts).run()
    assert journal["status"] == "completed", journal
    assert outputs(journal)["lift"]["verdict"] == "passed"
