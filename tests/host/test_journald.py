"""What a real journald has of runs, whoever does them, of schedules and of the monkey."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted import BOOTED, Booted, booted
from daemonized import PAUSE
from world import need, until

from chaosd.events import MESSAGE_IDS

ROOT = Path(__file__).parents[2]
BREAKS = f"{PAUSE}abort_when: [host.memory.available < 100%]\n"
STORY = ["run-begun", "fault-live", "reverting", "host-restored", "run-ended"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A booted Debian that sees what would be installed there, and has a service to be paused."""
    need(BOOTED)
    folder = tmp_path_factory.mktemp("stage")
    done = subprocess.run(
        ["tools/install.sh", "stage", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    binds = ((folder / place, f"/{place}") for place in ("usr/lib/chaosd", "usr/bin/chaosd"))
    with booted(tmp_path_factory.mktemp("booted"), *binds) as made:
        made.ask("systemd-run", "--quiet", "--unit=victim", "--service-type=exec", "sleep", "3600")
        yield made


def victim(host: Booted) -> str:
    return host.ask("systemctl", "show", "--property=MainPID", "--value", "victim.service")


def chaosd(host: Booted, *words: str) -> int:
    done = host.call("systemd-run", "--pipe", "--wait", "--quiet", "--collect", "--", "chaosd", *words)
    print(done.stdout, done.stderr)
    return done.returncode


def entries(host: Booted, *matches: str) -> list[dict[str, str]]:
    """What journald has of chaosd, by these fields."""
    host.ask("journalctl", "--sync")
    text = host.ask("journalctl", "--output=json", "SYSLOG_IDENTIFIER=chaosd", *matches)
    return [json.loads(line) for line in text.splitlines()]


def story(host: Booted, run: str) -> list[str]:
    return [each["CHAOSD_EVENT"] for each in entries(host, f"CHAOSD_RUN={run}")]


def newest(host: Booted) -> str:
    return entries(host, "CHAOSD_EVENT=run-begun")[-1]["CHAOSD_RUN"]


def test_a_run_without_a_daemon(host: Booted) -> None:
    words = ("process.pause", "--target", f"pid:{victim(host)}", "--duration", "300ms")
    assert chaosd(host, "inject", *words) == 0
    run = newest(host)
    found = entries(host, f"CHAOSD_RUN={run}")
    assert [each["CHAOSD_EVENT"] for each in found] == STORY
    for each in found:
        assert each["MESSAGE_ID"] == MESSAGE_IDS[each["CHAOSD_EVENT"]]  # type: ignore[index]
        assert each["CHAOSD_SCENARIO"] == "process.pause"
        assert each["_TRANSPORT"] == "journal"
        assert each["_UID"] == "0"
    assert [each["PRIORITY"] for each in found] == ["5", "5", "6", "6", "5"]
    assert found[0]["CHAOSD_FAULTS"] == "process.pause"
    assert found[-1]["CHAOSD_VERDICT"] == "passed"
    assert found[-1]["MESSAGE"] == f"run {run} (process.pause): passed"
    assert len({each["_PID"] for each in found}) == 1, "all by the engine"
    (ended,) = entries(host, f"MESSAGE_ID={MESSAGE_IDS['run-ended']}", f"CHAOSD_RUN={run}")
    assert ended["CHAOSD_EVENT"] == "run-ended"


def test_a_threshold(host: Booted) -> None:
    host.write("/run/breaks.yaml", BREAKS.format(duration="20s"))
    assert chaosd(host, "run", "/run/breaks.yaml", "--target", f"pid:{victim(host)}") == 3
    run = newest(host)
    assert story(host, run) == ["run-begun", "fault-live", "threshold-breached", *STORY[2:]]
    (breach,) = entries(host, f"CHAOSD_RUN={run}", "CHAOSD_EVENT=threshold-breached")
    assert (breach["CHAOSD_THRESHOLD"], breach["PRIORITY"]) == ("host.memory.available < 100%", "4")
    (ended,) = entries(host, f"CHAOSD_RUN={run}", "CHAOSD_VERDICT=aborted")
    assert ended["CHAOSD_REASON"].startswith("host.memory.available < 100%: ")


def test_an_engine_that_is_killed_is_told_of_by_its_watchdog(host: Booted) -> None:
    command = f"chaosd inject process.pause --target pid:{victim(host)} --duration 60s; sleep 3600"
    host.ask("systemd-run", "--unit=doomed", "--quiet", "sh", "-c", command)  # like a shell, which stays
    until(lambda: entries(host, "CHAOSD_EVENT=fault-live", "_SYSTEMD_UNIT=doomed.service"), "not live", 60)
    (live,) = entries(host, "CHAOSD_EVENT=fault-live", "_SYSTEMD_UNIT=doomed.service")
    run, engine = live["CHAOSD_RUN"], live["_PID"]
    host.ask("kill", "-KILL", engine)
    until(lambda: "run-ended" in story(host, run), "nobody tells of its end", 60)
    assert story(host, run) == ["run-begun", "fault-live", "host-restored", "run-ended"]
    (ended,) = entries(host, f"CHAOSD_RUN={run}", "CHAOSD_EVENT=run-ended")
    assert (ended["CHAOSD_VERDICT"], ended["_COMM"]) == ("killed", "chaosd-watchdog")
    assert ended["CHAOSD_SCENARIO"] == "process.pause", "of the journal that it has taken over"


def test_the_daemon_its_schedules_and_its_monkey(host: Booted) -> None:
    host.write("/etc/chaosd/schedules.d/broken.yaml", "cron: never\n")
    host.write("/run/pause.yaml", PAUSE.format(duration="200ms"))
    add = ("often", "/run/pause.yaml", "--cron", "*/2 * * * * *", "--target", "unit:victim.service")
    assert chaosd(host, "schedule", "add", *add) == 0
    monkey = "every: 1s\nprobability: 0%\nhours: '00:00-24:00'\ndays: mon-sun\nscenarios: [/run/pause.yaml]\n"
    host.write("/etc/chaosd/monkey.yaml", f"{monkey}targets: {{units: [victim.service]}}\n")
    host.write("/etc/chaosd/daemon.yaml", "monkey: /etc/chaosd/monkey.yaml\n")
    host.ask("systemd-run", "--service-type=notify", "--unit=daemon", "--quiet", "chaosd", "daemon")
    try:
        passed = ("CHAOSD_EVENT=schedule", "CHAOSD_SCHEDULE=often", "CHAOSD_OUTCOME=passed")
        until(lambda: entries(host, *passed), "no schedule", 60)
        until(lambda: entries(host, "CHAOSD_EVENT=monkey"), "no monkey", 60)
    finally:
        host.ask("systemctl", "stop", "daemon")
        chaosd(host, "schedule", "remove", "often")
    run = entries(host, *passed)[0]["CHAOSD_RUN"]
    kinds = story(host, run)
    assert sorted(kinds) == sorted([*STORY, "schedule", "schedule"])
    assert [kind for kind in kinds if kind != "schedule"] == STORY
    (broken,) = entries(host, "CHAOSD_EVENT=schedule", "CHAOSD_OUTCOME=unreadable")
    assert "broken.yaml" in broken["MESSAGE"]
    rests = entries(host, "CHAOSD_EVENT=monkey")[0]
    assert rests["PRIORITY"] == "6"
    assert rests["CHAOSD_WHY_NOT"]
