"""What is due when, by a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from chaosd.errors import ChaosdError
from chaosd.orchestrate import schedule, scheduler
from chaosd.orchestrate.scheduler import Memory, Scheduler, remembered

START = datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"CHAOSD_{key}_DIR", str(tmp_path / key.lower()))


def add(name: str, cron: str, **more: str) -> None:
    data = {"cron": cron, "scenario": "cpu-throttling", "target": "unit:web.service", "timezone": "UTC"}
    schedule.add(name, data | more)
    scheduler.resume(name, START)


def run(at: Scheduler, now: float) -> list[tuple[str, float]]:
    """Deal with everything that is due; what was to be run, and how long after the start it was due."""
    found = []
    while waiting := at.due(now):
        if at.begin(waiting[0]):
            found.append((waiting[0].schedule.name, waiting[0].nominal - START))
    return found


def test_each_time_is_run_once_and_over_a_restart_not_again() -> None:
    add("hourly", "0 * * * *")
    first = Scheduler(START)
    assert first.next_due(START) == START + 3600
    assert run(first, START + 3599) == []
    assert run(first, START + 3600.5) == [("hourly", 3600)]
    assert run(first, START + 3601) == []
    assert run(Scheduler(START + 3602), START + 3603) == []
    assert run(Scheduler(START + 3602), START + 7201) == [("hourly", 7200)]
    assert remembered("hourly") == Memory(START + 7200, START + 7200)


def test_what_was_missed_is_skipped_or_run_once_as_it_says() -> None:
    add("skips", "*/10 * * * *")
    add("runs", "*/10 * * * *", missed="run-once")
    later = START + 3630
    assert run(Scheduler(later), later + 1) == [("runs", 3600)]
    assert remembered("skips") == Memory(START + 3600, 0.0)
    assert run(Scheduler(later), START + 4201) == [("runs", 4200), ("skips", 4200)]


def test_what_comes_due_during_another_run_waits_and_comes_once() -> None:
    add("long", "0 * * * *")
    add("often", "*/10 * * * *")
    at = Scheduler(START)
    assert run(at, START + 4900) == [("long", 3600), ("often", 4800)]


def test_a_second_by_second_schedule_is_not_counted_through_for_years() -> None:
    add("second", "* * * * * *", missed="run-once")
    now = START + 3 * 366 * 86400.0
    assert run(Scheduler(now), now) == [("second", now - START)]


def test_a_yearly_schedule_is_found_however_long_ago_it_was_due() -> None:
    add("yearly", "0 0 1 12 *", missed="run-once")
    now = START + 300 * 86400.0
    due = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert run(Scheduler(now), now) == [("yearly", due - START)]


def test_jitter_only_puts_off_is_always_the_same_and_spreads_over_its_bound() -> None:
    add("late", "0 * * * *", jitter="10m")
    each = schedule.find("late")
    due = scheduler.upcoming(each, START, 1000)
    assert due == scheduler.upcoming(each, START, 1000)
    late = sorted(each.at - each.nominal for each in due)
    assert 0 <= late[0] < 10
    assert 590 < late[-1] < 600


def test_with_jitter_it_is_due_when_it_says() -> None:
    add("late", "0 * * * *", jitter="10m")
    (due,) = scheduler.upcoming(schedule.find("late"), START, 1)
    at = Scheduler(START)
    assert at.next_due(START) == due.at
    assert scheduler.coming(schedule.find("late"), START + 3600, 1) == [due]
    assert run(at, due.at - 0.1) == []
    assert run(at, due.at + 0.1) == [("late", 3600)]


def test_what_is_paused_is_not_due_nor_is_it_afterwards() -> None:
    add("hourly", "0 * * * *", missed="run-once")
    scheduler.pause("hourly")
    at = Scheduler(START)
    assert run(at, START + 3601) == []
    assert at.next_due(START) == float("inf")
    scheduler.resume("hourly", START + 3700)
    assert run(at, START + 3701) == []
    assert run(at, START + 7201) == [("hourly", 7200)]


def test_a_file_that_is_put_there_begins_when_it_is_first_seen() -> None:
    schedule.folder().mkdir(parents=True)
    (schedule.folder() / "new.yaml").write_text(
        "cron: '0 * * * *'\nscenario: cpu-throttling\ntarget: unit:web\ntimezone: UTC\nmissed: run-once\n",
        "utf-8",
    )
    at = Scheduler(START)
    assert run(at, START + 1800) == []
    assert run(at, START + 3601) == [("new", 3600)]


def test_a_broken_file_is_told_and_keeps_nobody_else_from_being_due() -> None:
    add("hourly", "0 * * * *")
    (schedule.folder() / "broken.yaml").write_text("cron: often\nscenario: x\n", "utf-8")
    at = Scheduler(START)
    assert run(at, START + 3601) == [("hourly", 3600)]
    assert len(at.problems) == 1
    assert "broken.yaml:1: cron: 'often' is not a cron expression" in at.problems[0]


def test_a_state_that_cannot_be_read_is_said() -> None:
    add("hourly", "0 * * * *")
    (Path(schedule.folder()).parents[1] / "state" / "schedules" / "hourly.json").write_text("{", "utf-8")
    with pytest.raises(ChaosdError, match=r"hourly\.json: cannot be read"):
        Scheduler(START).due(START)


def test_adding_checks_everything_and_does_not_write_over() -> None:
    add("hourly", "0 * * * *")
    with pytest.raises(ChaosdError, match="a schedule 'hourly' already"):
        add("hourly", "0 * * * *")
    for name, more, says in (
        ("a/b", {}, "cannot be the name"),
        ("x", {"set": {"percnt": 1}}, "did you mean percent?"),
        ("x", {"target": ""}, "has no target"),
        ("x", {"missed": "never"}, "missed"),
        ("x", {"duration": "31m"}, "at most 30m"),
    ):
        with pytest.raises(ChaosdError) as refused:
            add(name, "0 * * * *", **more)  # type: ignore[arg-type]
        assert says in str(refused.value)
    assert [each.name for each in schedule.read_all()[0]] == ["hourly"]
