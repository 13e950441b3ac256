"""``chaosd suite`` through the daemon: the same picture, outcome and ends as alone, for the group too."""

from __future__ import annotations

import json
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import daemonized
import pytest
from daemonized import MEMBER, PAUSE, Daemon
from orchestrating import NEVER, UNSTEADY, ended, state_of
from world import until

ROOT: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon() as made:
        for name in ("first", "second"):
            text = PAUSE.format(duration="300ms").replace("name: pause", f"name: {name}")
            (made.folder / f"{name}.yaml").write_text(text, "utf-8")
        (made.folder / "long.yaml").write_text(PAUSE.format(duration="60s"), "utf-8")
        (made.folder / "never.yaml").write_text(NEVER, "utf-8")
        (made.folder / "unsteady.yaml").write_text(UNSTEADY, "utf-8")
        yield made


def suite(daemon: Daemon, *scenarios: str) -> str:
    listed = ", ".join(f"{name}.yaml" for name in scenarios)
    place = daemon.folder / "suite.yaml"
    place.write_text(f"name: mine\npause: 100ms\nscenarios: [{listed}]\n", "utf-8")
    return str(place)


def still(said: str) -> list[str]:
    """What was said, without the figures that are another time's, and as wide as they are."""
    lines = [re.sub(r"\d[\d.]* (ms|s)\b", "TIME", line) for line in said.splitlines()]
    return [re.sub(r" +", " ", line.strip()) for line in lines]


@pytest.mark.parametrize("who", [ROOT, MEMBER], ids=["root", "member"])
def test_it_looks_and_ends_as_alone_and_the_daemon_has_done_it(daemon: Daemon, who: tuple[str, ...]) -> None:
    target = f"pid:{daemon.sleeper()}"
    words = ("suite", suite(daemon, "first", "never", "second"), "--target", target)
    everything = daemon.open("GET", "/v1/events")
    status, through = daemon.command(*words, within=who)
    assert json.loads(everything.readline())["type"] == "suite", "it went through the daemon"
    everything.close()
    assert (status, still(through)) == (0, still(daemon.command(*words, alone=True)[1]))
    assert "[2/3] never" in through
    assert "first: fault" in through
    assert "2 of 2 runs passed, 1 scenarios skipped" in through


@pytest.mark.parametrize("who", [ROOT, MEMBER], ids=["root", "member"])
def test_what_is_written_down_is_the_same_as_alone(daemon: Daemon, who: tuple[str, ...]) -> None:
    place = Path(tempfile.mkdtemp(dir=daemon.folder))
    place.chmod(0o777)
    target = f"pid:{daemon.sleeper()}"
    words = ("suite", suite(daemon, "first", "never"), "--target", target, "--seed", "5")
    words += ("--json", "--report")
    status, out = daemon.command(*words, str(place / "through"), within=who)
    told = json.loads(out)
    assert status == told["exit"] == 0
    alone = json.loads(daemon.command(*words, str(place / "alone"), alone=True)[1])
    assert told["skipped"] == alone["skipped"]
    (run,), (other,) = told["runs"], alone["runs"]
    assert run.keys() == other.keys()
    assert run["plan"] | {"run": ""} == other["plan"] | {"run": ""}
    assert [phase["name"] for phase in run["phases"]] == [phase["name"] for phase in other["phases"]]
    assert run["restored"]["differs"] == []
    assert json.loads((place / "through" / "result.json").read_text("utf-8")) == told
    names = sorted(path.name for path in (place / "alone").iterdir())
    assert sorted(path.name for path in (place / "through").iterdir()) == names
    assert 'tests="2"' in (place / "through" / "junit.xml").read_text("utf-8")


def test_a_category_goes_through_with_what_is_set_for_it(daemon: Daemon) -> None:
    words = ("suite", "time", "--target", f"pid:{daemon.sleeper()}", "--duration", "300ms")
    words += ("--pause", "100ms", "--json")
    status, out = daemon.command(*words, within=MEMBER)
    alone = json.loads(daemon.command(*words, alone=True)[1])
    told = json.loads(out)
    assert (status, told["suite"]) == (alone["exit"], "time")
    assert [each["scenario"] for each in told["runs"]] == [each["scenario"] for each in alone["runs"]]
    assert [each["scenario"] for each in told["skipped"]] == [each["scenario"] for each in alone["skipped"]]


def test_a_run_that_does_not_pass_ends_it_only_if_asked_to(daemon: Daemon) -> None:
    words = ("suite", suite(daemon, "unsteady", "second"), "--target", f"pid:{daemon.sleeper()}", "--json")
    status, out = daemon.command(*words, within=MEMBER)
    assert (status, [run["verdict"] for run in json.loads(out)["runs"]]) == (2, ["refused", "passed"])
    status, out = daemon.command(*words, "--stop-on-failure", within=MEMBER)
    assert (status, json.loads(out)["skipped"][0]["reason"]) == (2, "not run: unsteady: refused")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_run_in_progress_and_the_suite(daemon: Daemon, number: signal.Signals) -> None:
    pid = daemon.sleeper()
    process = daemon.begin(
        "suite", suite(daemon, "long", "second"), "--target", f"pid:{pid}", "--json", within=MEMBER
    )
    until(lambda: state_of(pid) == "T", "not paused", 60)
    process.send_signal(number)
    status, out = ended(process)
    told = json.loads(out)
    assert status == told["exit"] == 6
    assert [run["verdict"] for run in told["runs"]] == ["interrupted"]
    assert told["skipped"] == [{"scenario": "second", "reason": "not run: the suite was interrupted"}]
    assert state_of(pid) == "S"
    assert not daemon.journals()


def test_a_terminal_that_is_closed_leaves_the_suite_to_the_daemon(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    process = daemon.begin("suite", suite(daemon, "long"), "--target", f"pid:{pid}")
    until(lambda: state_of(pid) == "T", "not paused", 60)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=20)
    assert daemon.get("/v1/status")["live"][0]["alive"]
    daemon.post("/v1/stop", {"all": True})
    assert state_of(pid) == "S"


def test_what_is_wrong_is_said_as_alone_and_nothing_is_run(daemon: Daemon) -> None:
    target = ("--target", f"pid:{daemon.sleeper()}")
    place = suite(daemon, "first")
    for words in (
        (place,),
        (place, *target, "--set", "delay=1s"),
        (place, *target, "--pause", "soon"),
        ("netwrk", *target),
        ("gone.yaml", *target),
    ):
        status, out = daemon.command("suite", *words, within=MEMBER)
        assert (status, out) == daemon.command("suite", *words, alone=True)
        assert status == 2
    run = daemon.pause(daemon.sleeper())
    status, out = daemon.command("suite", place, *target, within=MEMBER)
    assert (status, f"another run holds this host: {run}" in out) == (2, True)
    daemon.post("/v1/stop", {"all": True})


def test_what_runs_a_program_is_for_root_alone(daemon: Daemon, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    text = PAUSE.format(duration="300ms") + f"observe: [{{command: {{argv: [/bin/touch, {ran}]}}}}]\n"
    (daemon.folder / "touching.yaml").write_text(text, "utf-8")
    words = ("suite", suite(daemon, "touching"), "--target", f"pid:{daemon.sleeper()}")
    status, out = daemon.command(*words, within=MEMBER)
    assert (status, "the daemon may not use /bin/touch" in out) == (2, True)
    assert "the daemon may not use /bin/touch" in daemon.command(*words, "--dry-run", within=MEMBER)[1]
    assert not ran.exists()
    assert daemon.command(*words)[0] == 0
    assert ran.exists()


def test_a_dry_run_shows_every_plan_and_touches_nothing(daemon: Daemon) -> None:
    place = suite(daemon, "first", "never")
    words = ("suite", place, "--target", f"pid:{daemon.sleeper()}", "--seed", "3", "--dry-run", "--json")
    before = daemon.get("/v1/history")
    status, out = daemon.command(*words, within=MEMBER)
    plans = json.loads(out)["plans"]
    assert (status, [plan["scenario"] for plan in plans]) == (0, ["first", "never"])
    assert plans[0]["faults"][0]["edits"]
    assert "notify" in plans[1]["cannot"]
    assert daemon.get("/v1/history") == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("suite", "suite.yaml"), "what did the suite has died; its run is being put back"),
        (("run", "long.yaml"), "the daemon died; run "),
    ],
)
def test_a_daemon_that_dies_is_told_of_and_its_run_is_put_back(words: tuple[str, ...], says: str) -> None:
    with daemonized.daemon() as daemon:
        (daemon.folder / "long.yaml").write_text(PAUSE.format(duration="60s"), "utf-8")
        suite(daemon, "long")
        pid = daemon.sleeper()
        process = daemon.begin(*words, "--target", f"pid:{pid}")
        until(lambda: state_of(pid) == "T", "not paused", 60)
        daemon.process.kill()
        daemon.process.wait()
        status, out = ended(process)
        assert (status, says in out) == (1, True), out
        until(lambda: state_of(pid) == "S" and not daemon.journals(), "not put back", 30)
