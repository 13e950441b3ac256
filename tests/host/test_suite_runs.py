"""Suites by the command line: what is run, what is skipped, and every way to end early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orchestrating
import pytest
from orchestrating import Shell, ended, state_of
from world import need, until

from chaosd.kernel.cgroup import CPU_V1
from chaosd.kernel.process import descendants


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with orchestrating.shell(tmp_path) as made:
        yield made


def suite(shell: Shell, *scenarios: str, more: str = "") -> str:
    listed = ", ".join(f"{name}.yaml" for name in scenarios)
    return shell.write("suite.yaml", f"name: mine\npause: 100ms\nscenarios: [{listed}]\n{more}\n")


def test_what_this_host_cannot_do_is_skipped_and_the_rest_is_run_and_reported(shell: Shell) -> None:
    target = f"pid:{shell.sleeper('idle')}"
    words = ("suite", suite(shell, "first", "never", "second"), "--target", target)
    status, out = shell.run(*words, "--report", "out", "--json")
    told = json.loads(out)
    assert status == told["exit"] == 0, out
    assert [run["scenario"] for run in told["runs"]] == ["first", "second"]
    assert all(run["verdict"] == "passed" and run["restored"]["differs"] == [] for run in told["runs"])
    assert [each["scenario"] for each in told["skipped"]] == ["never"]
    assert "notify" in told["skipped"][0]["reason"]
    assert json.loads((shell.folder / "out" / "result.json").read_text("utf-8")) == told
    for name in ("report.html", "junit.xml", "summary.md"):
        text = (shell.folder / "out" / name).read_text("utf-8")
        assert [each for each in ("mine", "first", "second", "never") if each not in text] == [], name
    assert len(shell.runs()) == 2
    assert not shell.live()
    status, out = shell.run(*words)
    assert status == 0
    assert "[2/3] never" in out
    assert "2 of 2 runs passed, 1 scenarios skipped" in out


def test_a_run_that_does_not_pass_ends_the_suite_only_if_asked_to(shell: Shell) -> None:
    target = f"pid:{shell.sleeper('idle')}"
    words = ("suite", suite(shell, "unsteady", "second"), "--target", target, "--json")
    status, out = shell.run(*words)
    assert (status, [run["verdict"] for run in json.loads(out)["runs"]]) == (2, ["refused", "passed"])
    status, out = shell.run(*words, "--stop-on-failure")
    told = json.loads(out)
    assert (status, len(told["runs"])) == (2, 1)
    assert told["skipped"] == [{"scenario": "second", "reason": "not run: unsteady: refused"}]


def test_ctrl_c_ends_the_run_in_progress_and_the_suite(shell: Shell) -> None:
    pid = shell.sleeper("idle")
    process = shell.start("suite", suite(shell, "long", "second"), "--target", f"pid:{pid}", "--json")
    shell.wait_fault()
    process.send_signal(signal.SIGINT)
    status, out = ended(process)
    told = json.loads(out)
    assert status == 6
    assert [run["verdict"] for run in told["runs"]] == ["interrupted"]
    assert told["skipped"] == [{"scenario": "second", "reason": "not run: the suite was interrupted"}]
    assert told["runs"][0]["restored"]["differs"] == []
    assert state_of(pid) == "S"
    assert not shell.live()


def test_a_signal_in_the_pause_ends_the_suite(shell: Shell) -> None:
    target = f"pid:{shell.sleeper('idle')}"
    process = shell.start("suite", suite(shell, "first", "second"), "--target", target, "--pause", "5m")
    until(lambda: shell.runs(), "no run", 60)
    process.send_signal(signal.SIGTERM)
    status, out = ended(process)
    assert status == 6
    assert "second: not run: the suite was interrupted" in out
    assert len(shell.runs()) == 1


def test_an_engine_that_is_killed_fails_its_run_and_the_suite_goes_on(shell: Shell) -> None:
    pid = shell.sleeper("idle")
    process = shell.start("suite", suite(shell, "long", "second"), "--target", f"pid:{pid}", "--json")
    record = json.loads(shell.wait_fault().read_text("utf-8").splitlines()[0])
    engine = record["process"]["pid"]
    assert engine in descendants(process.pid), "the run has a process of its own"
    os.kill(engine, signal.SIGKILL)
    status, out = ended(process)
    told = json.loads(out)
    assert (status, [run["verdict"] for run in told["runs"]]) == (1, ["killed", "passed"])
    assert not any(edit["open"] for edit in told["runs"][0]["edits"].values())
    assert state_of(pid) == "S"
    assert not shell.live()


SLOW = """
import sys, time
from chaosd.orchestrate import apart
from chaosd.orchestrate.waiting import Stop
from chaosd.scenario import load

def show(record, view):
    if record["type"] == "phase" and record["phase"] == "fault":
        time.sleep(4)
    if record["type"] == "sample" and view.live:
        raise OSError("nobody listens")

piped, records = [], apart._records
apart._records = lambda *ends: (piped.append(record) or record for record in records(*ends))
with Stop() as stop:
    view = apart.run(load("chatty.yaml", {"target": sys.argv[1]}), stop, show)
assert len(piped) < len([*apart._finished(view.run)]), "the pipe has taken it all"
print(view.verdict, view.ended - view.started > 7, len(view.series) > 10, view.restored["differs"])
"""


def test_who_watches_slowly_or_fails_holds_up_no_run_and_misses_nothing(
    shell: Shell,
) -> None:
    """The pipe is so small, and what a sample says so much, that the engine finds it full."""
    checks = ", ".join(f"{{tcp: {{name: check{n}, host: 127.0.0.1, port: 1, rate: 1}}}}" for n in range(16))
    shell.write(
        "chatty.yaml",
        f"name: chatty\nduration: 7s\nobserve: [{checks}]\nfaults: [process.pause]\n"
        'abort_when: ["error_rate > 100%", "availability < 0%"]\n',
    )
    small = "import fcntl, os\nmade = os.pipe2\ndef pipe2(flags):\n    ends = made(flags)\n"
    small += "    fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 4096)\n    return ends\nos.pipe2 = pipe2\n"
    target = f"pid:{shell.sleeper('idle')}"
    done = subprocess.run(
        [sys.executable, "-c", small + SLOW, target],
        env=shell.env, cwd=shell.folder, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == "passed True True []\n", done.stdout + done.stderr


def test_a_suite_that_is_killed_takes_its_run_along_which_restores(shell: Shell) -> None:
    pid = shell.sleeper("idle")
    process = shell.start("suite", suite(shell, "long", "second"), "--target", f"pid:{pid}")
    shell.wait_fault()
    process.kill()
    process.wait()
    until(lambda: not shell.live() and shell.runs(), "not restored", 30)
    assert state_of(pid) == "S"


def test_a_host_that_is_not_restored_stops_the_suite_at_once(shell: Shell) -> None:
    """A mount on the cgroup that the run made keeps it from being removed, until it is taken away."""
    need(CPU_V1)
    shell.write("throttle.yaml", "name: throttle\nduration: 2s\nfaults: [{cpu.throttle: {percent: 50%}}]\n")
    pid = shell.sleeper("idle")
    words = ("suite", suite(shell, "throttle", "second"), "--target", f"pid:{pid}", "--json")
    process = shell.start(*words, within=("unshare", "--mount", "--propagation", "private"))
    journal = shell.wait_fault()
    records = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    group = next(r["says"].split()[-1] for r in records if r.get("says", "").startswith("make cgroup /"))
    with open(f"/proc/{process.pid}/ns/mnt", "rb") as namespace:
        _inside(namespace.fileno(), "mount", "--bind", group, group)
        try:
            status, out = ended(process)
        finally:
            _inside(namespace.fileno(), "umount", group)
    told = json.loads(out)
    assert status == told["exit"] == 10
    assert [run["verdict"] for run in told["runs"]] == ["not-restored"]
    assert told["skipped"] == [{"scenario": "second", "reason": "not run: throttle was not put back"}]
    until(lambda: not shell.live(), "the watchdog does not put it back", 60)
    assert not Path(group).exists()


def _inside(namespace: int, *argv: str) -> None:
    enter = ["nsenter", f"--mount=/proc/self/fd/{namespace}"]
    subprocess.run([*enter, *argv], check=True, pass_fds=[namespace], timeout=20)


def test_a_dry_run_shows_every_plan_and_touches_nothing(shell: Shell) -> None:
    target = f"pid:{shell.sleeper('idle')}"
    words = ("suite", suite(shell, "first", "never"), "--target", target, "--dry-run")
    status, out = shell.run(*words, "--json")
    plans = json.loads(out)["plans"]
    assert status == 0
    assert [plan["scenario"] for plan in plans] == ["first", "never"]
    assert plans[0]["faults"][0]["edits"]
    assert "notify" in plans[1]["cannot"]
    assert "never  would not be run: " in shell.run(*words)[1]
    assert not (shell.folder / "state").exists()
