"""What is told of runs, schedules and the monkey, and how it is put for the journal of systemd."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from told import LIMIT, tape

from chaosd import events, journald
from chaosd.events import MESSAGE_IDS, Event, Kind, Story
from chaosd.journal import Record

DOCS = Path(__file__).parents[2] / "docs"


def story(records: list[Record]) -> list[Event]:
    teller = Story()
    return [event for record in records if (event := teller.add(record)) is not None]


def test_a_run_that_passes() -> None:
    told = story(tape().records)
    assert [event.kind for event in told] == [
        *("run-begun", "fault-live", "reverting", "host-restored", "recovered", "run-ended")
    ]
    assert {(event.run, event.scenario) for event in told} == {("aa11bb", "network-latency")}
    first, *_, last = told
    assert first.message == "run aa11bb (network-latency): begins: network.delay on container:api"
    assert first.more == {"faults": ["network.delay"], "targets": ["container:api"]}
    assert (last.more["verdict"], last.priority, last.at) == ("passed", 5, 1.7e9 + 14)
    assert told[3].more == {"took": 0.1}


@pytest.mark.parametrize(
    ("verdict", "reason", "breached"),
    [
        ("aborted", f"{LIMIT}: 1.2 s", True),
        ("aborted", "the watchdog died", False),
        ("interrupted", "SIGINT", False),
    ],
)
def test_a_threshold_is_told_when_it_breaks(verdict: str, reason: str, breached: bool) -> None:
    made = tape(verdict=verdict, reason=reason)
    at = next(i for i, record in enumerate(made.records) if record.get("phase") == "revert")
    ending = {"type": "ending", "at": 1.7e9, "verdict": verdict, "reason": reason}
    told = story([*made.records[:at], ending, *made.records[at:]])
    kinds = [event.kind for event in told]
    assert kinds[2:4] == (["threshold-breached", "reverting"] if breached else ["reverting", "host-restored"])
    assert told[-1].priority == 4
    if breached:
        assert told[2].more == {"threshold": LIMIT}


@pytest.mark.parametrize(
    ("found", "says", "priority"),
    [
        ({"differs": ["sysctl a"]}, "other than before: sysctl a", 3),
        ({"stuck": ["ifb: EBUSY"]}, "the host is NOT as before: ifb: EBUSY", 2),
    ],
)
def test_a_host_that_is_not_as_before(found: dict[str, list[str]], says: str, priority: int) -> None:
    records = tape().records
    next(record for record in records if record["type"] == "restored").update(found)
    (event,) = (event for event in story(records) if event.kind == "host-not-restored")
    assert says in event.message
    assert (event.priority, event.more) == (priority, {"took": 0.1} | found)


def test_an_edit_that_is_stuck() -> None:
    told = story([tape().records[0], {"type": "stuck", "at": 1.0, "n": 0, "error": "OSError: EBUSY"}])
    assert (told[1].kind, told[1].priority, told[1].more) == ("edit-stuck", 3, {"error": "OSError: EBUSY"})


def test_schedules_and_the_monkey() -> None:
    due = {"at": 1.0, "schedule": "nightly", "says": "ended: failed", "outcome": "failed", "run": "aa11bb"}
    one = events.of_schedule(due)
    assert (one.message, one.priority, one.run) == ("schedule nightly: ended: failed", 4, "aa11bb")
    assert events.of_schedule({"at": 1.0, "says": "x.yaml:1: no", "outcome": "unreadable"}).priority == 4
    assert events.of_schedule(due | {"outcome": "passed"}).priority == 5
    acts = events.of_monkey({"scenario": "slow", "target": "comm:a", "why_not": ""})
    assert (acts.message, acts.priority) == ("monkey: slow on comm:a", 5)
    rests = events.of_monkey({"scenario": "", "target": "", "why_not": "not in its hours"})
    assert (rests.message, rests.priority) == ("monkey: rests, not in its hours", 6)


def test_every_kind_has_an_id_and_is_documented() -> None:
    assert set(MESSAGE_IDS) == set(get_args(Kind))
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    page = (DOCS / "events.md").read_text("utf-8")
    for kind, number in MESSAGE_IDS.items():
        assert re.fullmatch("[0-9a-f]{32}", number)
        assert re.search(rf"^\| `{kind}` \| .* \| `{number}` \|$", page, re.MULTILINE), kind


@pytest.fixture
def end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where journald would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "socket"))
        made.settimeout(10)
        monkeypatch.setattr(journald, "SOCKET", str(tmp_path / "socket"))
        yield made


def test_an_entry_in_the_native_protocol(end: socket.socket) -> None:
    journald.send({"MESSAGE": "ä = b", "PRIORITY": 5, "TEXT": "two\nlines"})
    size = struct.pack("<Q", 9)
    assert end.recv(4096) == "MESSAGE=ä = b\nPRIORITY=5\n".encode() + b"TEXT\n" + size + b"two\nlines\n"


def test_what_is_too_large_for_a_datagram_comes_in_a_sealed_file(end: socket.socket) -> None:
    journald.send({"MESSAGE": "x" * (8 << 20)})
    text, (file,), _, _ = socket.recv_fds(end, 4096, 1)
    try:
        assert text == b""
        wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & wanted == wanted
        assert os.pread(file, 9 << 20, 0) == b"MESSAGE=" + b"x" * (8 << 20) + b"\n"
    finally:
        os.close(file)


def test_an_event_has_fields_of_its_own_and_none_that_is_empty(end: socket.socket) -> None:
    events.log(Event("run-begun", 1.0, "begins", 5, "aa11bb", "", {"faults": ["a", "b"], "reason": ""}))
    assert end.recv(4096).decode().splitlines() == [
        "MESSAGE=begins",
        f"MESSAGE_ID={MESSAGE_IDS['run-begun']}",
        "PRIORITY=5",
        "SYSLOG_IDENTIFIER=chaosd",
        "CHAOSD_EVENT=run-begun",
        "CHAOSD_RUN=aa11bb",
        "CHAOSD_FAULTS=a, b",
    ]


def test_nobody_waits_for_a_journal_that_does_not_read(end: socket.socket) -> None:
    began = time.monotonic()
    for _ in range(2000):
        journald.send({"MESSAGE": "x"})
    assert time.monotonic() - began < 5


def test_nothing_happens_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(journald, "SOCKET", str(tmp_path / "nowhere"))
    journald.send({"MESSAGE": "x"})
    assert len(os.listdir("/proc/self/fd")) == before
