"""Schedules that come due by the second, in a loop that is stopped and killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import orchestrating
import pytest
from orchestrating import Shell, ended, state_of
from world import until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with orchestrating.shell(tmp_path) as made:
        yield made


def memory(shell: Shell, name: str) -> dict[str, float]:
    told: dict[str, float] = json.loads(
        (shell.folder / "state" / "schedules" / f"{name}.json").read_text("utf-8")
    )
    return told


def test_a_schedule_is_added_shown_paused_resumed_and_removed(shell: Shell) -> None:
    words = ("add", "weekly", "first.yaml", "--cron", "0 3 * * 1", "--timezone", "Europe/Berlin")
    status, out = shell.run("schedule", *words)
    assert (status, "first has no target" in out) == (2, True)
    status, out = shell.run("schedule", *words, "--target", "unit:web.service", "--json")
    assert status == 0
    added = json.loads(out)
    assert added["scenario"] == str(shell.folder / "first.yaml"), "found from wherever the loop is started"
    assert len(added["next"]) == 5
    assert all("03:00:00 CE" in at and at.startswith("Mon") for at in added["next"])
    file = shell.folder / "config" / "schedules.d" / "weekly.yaml"
    assert "cron: 0 3 * * 1" in file.read_text("utf-8")
    assert "already" in shell.run("schedule", *words, "--target", "unit:web.service")[1]
    assert shell.run("schedule", "pause", "weekly") == (0, "weekly: paused\n")
    assert "paused" in shell.run("schedule", "list")[1]
    assert "next Mon" in shell.run("schedule", "resume", "weekly")[1]
    assert json.loads(shell.run("schedule", "show", "weekly", "--json")[1])["paused"] is False
    assert "did you mean weekly?" in shell.run("schedule", "show", "weekli")[1]
    assert shell.run("schedule", "remove", "weekly")[0] == 0
    assert not file.exists()
    assert "there are no schedules" in shell.run("schedule", "list")[1]


def test_who_is_not_root_is_told_so(shell: Shell) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    nobody += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    for words in (
        ("list",),
        ("run",),
        ("show", "x"),
        ("remove", "x"),
        ("add", "x", "first.yaml", "--cron", "* * * * *"),
    ):
        status, out = ended(shell.start("schedule", *words, within=tuple(nobody)))
        assert (status, "sudo chaosd" in out) == (2, True), out
    for words in (("monkey", "monkey.yaml"), ("suite", "resource", "--target", "pid:2")):
        shell.write("monkey.yaml", "scenarios: [first.yaml]\ntargets: {comm: [x]}\n")
        status, out = ended(shell.start(*words, within=tuple(nobody)))
        assert (status, "sudo chaosd" in out) == (2, True), out


def test_what_is_due_is_run_again_and_again_until_a_signal(shell: Shell) -> None:
    target = f"pid:{shell.sleeper('idle')}"
    shell.run("schedule", "add", "often", "first.yaml", "--cron", "*/2 * * * * *", "--target", target)
    process = shell.start("schedule", "run")
    until(lambda: len(shell.runs()) == 2, "not run twice", 60)
    assert "another process already does this" in shell.run("schedule", "run")[1]
    process.send_signal(signal.SIGTERM)
    status, out = ended(process)
    assert status in (0, 6)
    assert out.count("often: ended: run") >= 2
    assert shell.targets()[:2] == [target, target]
    assert memory(shell, "often")["ran"] % 2 == 0
    assert not shell.live()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_loop_that_ends_in_the_middle_of_a_run_does_not_run_it_again(shell: Shell, number: int) -> None:
    pid = shell.sleeper("idle")
    add = ("schedule", "add", "hourly", "long.yaml", "--cron", "0 * * * *", "--missed", "run-once")
    assert shell.run(*add, "--target", f"pid:{pid}")[0] == 0
    # as if the last time that was dealt with were three hours ago
    known = memory(shell, "hourly")
    shell.write("state/schedules/hourly.json", json.dumps({"seen": known["seen"] - 3 * 3600}))
    process = shell.start("schedule", "run")
    shell.wait_fault()
    process.send_signal(number)
    process.communicate(timeout=60)
    until(lambda: not shell.live() and shell.runs(), "not restored", 30)
    assert state_of(pid) == "S"
    process = shell.start("schedule", "run", "--json")
    with pytest.raises(AssertionError, match="waited"):
        until(lambda: len(shell.runs()) > 1 or shell.live(), "waited", 4)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    assert len(shell.runs()) == 1


def test_two_that_are_due_at_once_are_run_one_after_the_other(shell: Shell) -> None:
    target = f"pid:{shell.sleeper('idle')}"
    for name, scenario in (("a", "first.yaml"), ("b", "second.yaml")):
        add = ("schedule", "add", name, scenario, "--cron", "0 * * * *", "--missed", "run-once")
        assert shell.run(*add, "--target", target)[0] == 0
        seen = memory(shell, name)["seen"] - 3 * 3600
        shell.write(f"state/schedules/{name}.json", json.dumps({"seen": seen}))
    process = shell.start("schedule", "run", "--json")
    until(lambda: len(shell.runs()) == 2, "not both", 60)
    until(lambda: not shell.live(), "still going on", 20)
    process.send_signal(signal.SIGTERM)
    events = [json.loads(line) for line in ended(process)[1].splitlines()]
    assert [(each["schedule"], each["event"]) for each in events] == [
        ("a", "begins"),
        ("a", "ended"),
        ("b", "begins"),
        ("b", "ended"),
    ]
    assert [each["run"]["verdict"] for each in events if "run" in each] == ["passed", "passed"]
