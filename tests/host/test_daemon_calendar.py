"""Schedules and the monkey inside the daemon: they run, are seen, rest, and make way for others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import daemonized
import pytest
from daemonized import MEMBER, PAUSE, Daemon
from orchestrating import ended, state_of
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
    """What a stream tells from now on."""
    answer = daemon.open("GET", path)

    def read() -> Iterator[dict[str, Any]]:
        with answer:
            while line := answer.readline():
                yield json.loads(line)

    return read()


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


YEARLY = ("--cron", "0 3 1 1 *", "--timezone", "Europe/Berlin")


def test_a_member_of_the_group_has_schedules_and_they_look_as_for_root(daemon: Daemon) -> None:
    target = ("--target", f"pid:{daemon.sleeper()}")
    add = ("schedule", "add", "yearly", "service-pause", *YEARLY, *target, "--seed", "0", "--jitter", "10m")
    status, added = daemon.command(*add, within=MEMBER)
    assert (status, added.endswith("  added by nobody\n")) == (0, True), added
    assert daemon.command("schedule", "list", within=MEMBER) == (0, added)
    assert daemon.command("schedule", "list") == (0, added)
    shown = daemon.command("schedule", "show", "yearly", within=MEMBER)
    assert shown == daemon.command("schedule", "show", "yearly")
    assert shown[1].count("\n") == 6
    assert daemon.command(*add, within=MEMBER)[1].startswith("chaosd: there is a schedule 'yearly' already")
    assert daemon.command("schedule", "pause", "yearly", within=MEMBER) == (0, "yearly: paused\n")
    assert "paused" in daemon.command("schedule", "list", within=MEMBER)[1]
    assert daemon.command("schedule", "resume", "yearly", within=MEMBER) == (0, added)
    for word in ("show", "pause", "resume", "remove"):
        status, out = daemon.command("schedule", word, "yearli", within=MEMBER)
        said = "chaosd: there is no schedule 'yearli'\n  hint: did you mean yearly?\n"
        assert (status, out) == (2, said), word
    assert daemon.command("schedule", "remove", "yearly", within=MEMBER) == (0, "yearly: removed\n")
    assert daemon.command("schedule", "list", "--json", within=MEMBER)[1] == (
        '{\n  "schedules": [],\n  "problems": []\n}\n'
    )
    assert "there are no schedules" in daemon.command("schedule", "list", within=MEMBER)[1]
    (daemon.folder / "config" / "schedules.d" / "torn.yaml").write_text("cron: [", "utf-8")
    listed = daemon.command("schedule", "list", within=MEMBER)
    assert listed == daemon.command("schedule", "list")
    assert "torn.yaml:2: not YAML" in listed[1]


def test_a_scenario_of_a_members_own_is_kept_run_and_goes_with_its_schedule(daemon: Daemon) -> None:
    own = daemon.folder / "own.yaml"
    own.write_text(PAUSE.format(duration="300 lightyears"), "utf-8")
    add = ("schedule", "add", "often", str(own), "--cron", "* * * * * *")
    add += ("--target", f"pid:{daemon.sleeper()}")
    status, out = daemon.command(*add, within=MEMBER)
    assert (status, out.startswith(f"chaosd: {own}:2: duration: ")) == (2, True), out
    folder = daemon.folder / "config" / "schedules.d"
    assert not folder.exists(), "nothing is changed"
    own.write_text(PAUSE.format(duration="300ms"), "utf-8")
    told = lines(daemon, "/v1/events")
    assert daemon.command(*add, within=MEMBER)[0] == 0
    own.unlink()
    said = [next(each["says"] for each in told if each["type"] == "schedule") for _ in range(2)]
    assert said == ["begins", "ended: passed"]
    kept = [path.relative_to(folder) for path in folder.rglob("*.yaml")]
    assert sorted(map(str, kept)) == ["often.yaml", "scenarios/often.yaml"]
    assert all(path.stat().st_mode & 0o022 == 0 for path in folder.rglob("*.yaml"))
    assert daemon.command("schedule", "remove", "often", within=MEMBER)[0] == 0
    assert not [*folder.rglob("*.yaml")]
    until(lambda: not daemon.get("/v1/status")["live"], "still live")


def test_a_members_schedule_uses_no_program_that_is_not_allowed_then_and_when_it_is_due() -> None:
    def text(program: str) -> str:
        return PAUSE.format(duration="300ms") + f"observe: [{{command: {{argv: [{program}]}}}}]\n"

    with daemonized.daemon("allow: [/bin/true]\n") as daemon:
        pid = daemon.sleeper()
        order = {"name": "often", "cron": "* * * * * *", "target": f"pid:{pid}"}
        status, problem = daemon.ask("POST", "/v1/schedules", order | {"text": text("/bin/false")})
        assert (status, problem["error"]) == (403, "the daemon may not use /bin/false")
        for word in ("/etc/hostname", "often", "../daemon.yaml"):
            assert daemon.ask("POST", "/v1/schedules", order | {"scenario": word})[0] == 404
        for name in ("../x", "a/b", "", ".x", "x" * 65):
            wrong = order | {"name": name, "text": text("/bin/true")}
            assert daemon.ask("POST", "/v1/schedules", wrong)[0] == 422
        assert daemon.ask("POST", "/v1/schedules", order)[0] == 422
        assert not (daemon.folder / "config").exists()
        told = lines(daemon, "/v1/events")
        daemon.post("/v1/schedules", order | {"text": text("/bin/true")})
        said = [next(each["says"] for each in told if each["type"] == "schedule") for _ in range(2)]
        assert said == ["begins", "ended: passed"]
        daemon.process.terminate()
        daemon.process.wait(30)
        daemon.config.write_text(daemon.config.read_text("utf-8").replace("[/bin/true]", "[]"), "utf-8")
        daemon.start()
        told = lines(daemon, "/v1/events")
        refused = next(each for each in told if each["type"] == "schedule" and each["outcome"] != "missed")
        assert refused["says"].startswith("the daemon may not use /bin/true")
        assert daemon.command("schedule", "remove", "often")[0] == 0


def test_what_root_has_written_down_is_not_for_members_to_remove(daemon: Daemon) -> None:
    words = ("schedule", "add", "yearly", "service-pause", *YEARLY, "--target", "pid:4711")
    assert daemon.command(*words)[0] == 0
    status, out = daemon.command("schedule", "remove", "yearly", within=MEMBER)
    said = "chaosd: root has written down 'yearly'\n  hint: chaosd schedule pause yearly\n"
    assert (status, out) == (2, said)
    status, out = daemon.command("schedule", "run", within=MEMBER)
    assert (status, "sudo chaosd" in out) == (2, True)
    assert daemon.get("/v1/schedules/yearly")["added_by"] == ""
    daemon.post("/v1/schedules/yearly/remove")
    assert daemon.get("/v1/schedules") == []


def test_what_root_adds_is_due_at_once_and_not_when_the_daemon_looks_next(daemon: Daemon) -> None:
    told = lines(daemon, "/v1/events")
    schedule(daemon, "often", daemon.sleeper())
    assert next(each["says"] for each in told if each["type"] == "schedule") == "begins"
    assert daemon.command("schedule", "remove", "often")[0] == 0
    until(lambda: not daemon.get("/v1/status")["live"], "still live")


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


def test_members_see_and_pause_the_monkey_and_one_by_hand_keeps_out_of_its_way(tmp_path: Path) -> None:
    with daemonized.daemon() as plain:
        for word in ("status", "pause"):
            status, out = plain.command("monkey", word, within=MEMBER)
            assert (status, out.startswith("chaosd: this daemon has no monkey\n")) == (2, True)
        status, out = plain.command("monkey", "pause", alone=True)
        assert (status, out.startswith("chaosd: no daemon serves here\n")) == (2, True)
    (tmp_path / "brief.yaml").write_text(PAUSE.format(duration="300ms"), "utf-8")
    for name in ("ape", "gibbon"):
        text = MONKEY.format(scenario="brief.yaml", comm="nothing-like-it")
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    with daemonized.daemon(f"monkey: {tmp_path}/ape.yaml\n") as daemon:
        told = lines(daemon, "/v1/events")
        assert next(told)["type"] == "monkey"
        status, out = daemon.command("monkey", "status", within=MEMBER)
        first, last = out.splitlines()
        assert (status, first.startswith("monkey ape: next tick ")) == (0, True)
        assert last.endswith("  nothing: no eligible target")
        assert daemon.command("monkey", "pause", within=MEMBER)[1].startswith("monkey ape: paused\n")
        assert json.loads(daemon.command("monkey", "status", "--json")[1])["paused"]
        assert daemon.get("/v1/status")["monkey"]["paused"]
        resumed = daemon.command("monkey", "resume", within=MEMBER)[1]
        assert resumed.startswith("monkey ape: next tick ")
        status, out = daemon.command("monkey", str(tmp_path / "ape.yaml"), "--once")
        said = "chaosd: the daemon's monkey goes by ape already\n  hint: chaosd monkey status\n"
        assert (status, out) == (2, said)
        status, out = daemon.command("monkey", str(tmp_path / "ape.yaml"), "--once", alone=True)
        assert (status, "another process already does this: monkey-ape" in out) == (2, True)
        process = daemon.begin("monkey", str(tmp_path / "gibbon.yaml"), "--once")
        status, out = ended(process)
        assert status == 0
        assert "nothing: no eligible target" in out
        assert out.endswith("chaosd: the daemon has a monkey as well: ape; see chaosd monkey status\n")


def test_who_may_only_look_pauses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "ape.yaml"
    (tmp_path / "brief.yaml").write_text(PAUSE.format(duration="300ms"), "utf-8")
    place.write_text(MONKEY.format(scenario="brief.yaml", comm="nothing-like-it"), "utf-8")
    with daemonized.daemon(f"readers: everybody\nmonkey: {place}\n") as daemon:
        look = (*MEMBER[:2], "--regid=65534", *MEMBER[3:])
        assert daemon.command("monkey", "status", within=look)[1].startswith("monkey ape: next tick ")
        assert "there are no schedules" in daemon.command("schedule", "list", within=look)[1]
        target = ("--target", "pid:4711")
        for words in (
            ("monkey", "pause"),
            ("schedule", "add", "x", "service-pause", *YEARLY, *target),
            ("suite", "time", *target),
        ):
            status, out = daemon.command(*words, within=look)
            assert (status, "nobody may not act" in out) == (2, True), out
        assert not daemon.get("/v1/status")["monkey"]["paused"]


def test_a_monkey_that_is_wrong_is_refused_at_the_start(tmp_path: Path) -> None:
    place = tmp_path / "ape.yaml"
    place.write_text("scenarios: [no-such-thing]\ntargets: {comm: [x]}\n", "utf-8")
    with daemonized.daemon() as daemon:
        other = daemon.folder / "other.yaml"
        other.write_text(f"socket: {daemon.folder}/other.sock\nmonkey: {place}\n", "utf-8")
        status, out = daemon.command("daemon", "--config", str(other))
        assert status == 2
        assert "ape.yaml:1: scenarios.0: unknown scenario 'no-such-thing'" in out
