"""The child that waits for the order of a run: what it is like, when it is used, and whom it dies with."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import daemonized
import dump
import pytest
from daemonized import Daemon
from world import until

from chaosd.daemon.zygote import Tell, Zygote
from chaosd.kernel.cgroup import UNIFIED, hierarchies


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon() as made:
        yield made


def waiting(daemon: Daemon) -> int:
    """The child that waits, once it does; its pid."""
    until(daemon.idle, "nobody waits, or it rehearses for ever")
    return daemon.names()["chaosd-ahead"]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), "it does not die")


def engine(daemon: Daemon, run: str) -> int:
    return int(next(record["process"]["pid"] for record in records(daemon, run) if record["type"] == "run"))


def records(daemon: Daemon, run: str) -> list[dict[str, Any]]:
    lines = daemon.read("GET", f"/v1/runs/{run}/events?follow=false")[1].splitlines()
    return [json.loads(line) for line in lines]


def manners(pid: int) -> dict[str, Any]:
    """What a process does to others, and lets them do to it."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    )
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    found: dict[str, Any] = {key: status[key] for key in ("Name", "Umask", "SigBlk", "SigIgn", "SigCgt")}
    found |= {key: Path(f"/proc/{pid}/{key}").read_bytes() for key in ("environ", "oom_score_adj", "cgroup")}
    found |= {key: os.readlink(f"/proc/{pid}/{key}") for key in ("cwd", "root", "ns/net", "ns/mnt")}
    found |= {"group and session": [int(field) == pid for field in stat[2:4]], "nice": stat[16]}
    return found | {"locked": status["VmLck"], "files": sorted(map(kind, Path(f"/proc/{pid}/fd").iterdir()))}


def kind(fd: Path) -> str:
    with suppress(FileNotFoundError):
        where, _, what = os.readlink(fd).partition(":")
        return Path(where).suffix or where + what.strip("[]0123456789")
    return ""


def paused(daemon: Daemon, target: int) -> str:
    """Start a run that pauses a process, and wait until the last edit, of its watchdog, is applied."""
    run = daemon.pause(target)
    edits = 1 + 2 * bool(hierarchies().keys() & {UNIFIED, "name=systemd"})
    until(lambda: [r["type"] for r in records(daemon, run)].count("applied") == edits, "not live")
    return run


def test_it_does_the_next_run_as_any_other_child_would(daemon: Daemon) -> None:
    pid = waiting(daemon)
    target = daemon.sleeper()
    run = paused(daemon, target)
    assert engine(daemon, run) == pid
    ours = manners(pid)
    assert ours["Name"] == "chaosd"
    assert len(daemon.family()) == 4, "its watchdog is the one that it had"
    daemon.post("/v1/stop", {"all": True})

    kill(waiting(daemon))
    run = paused(daemon, target)
    assert manners(engine(daemon, run)) == ours
    daemon.post("/v1/stop", {"all": True})


@pytest.mark.alone
def test_waiting_changes_nothing_and_is_no_run(daemon: Daemon) -> None:
    def look() -> object:
        return dump.process(target), dump.bpf(), [*(daemon.folder / "run").rglob("*.jsonl")]

    target = daemon.sleeper()
    daemon.events(
        daemon.pause(target, "100ms")
    )  # this kernel's gate is known by now, and rehearsed from here on
    waiting(daemon)
    time.sleep(1)  # the kernel forgets a while later what others have let go of
    before = look()
    kill(daemon.names()["chaosd-ahead"])
    daemon.events(daemon.pause(target, "100ms"))
    waiting(daemon)
    assert daemon.get("/v1/status")["live"] == []
    until(lambda: look() == before, "something is left")
    assert not (daemon.folder / "run" / "lock").exists()


def test_one_that_was_killed_gets_no_order_and_takes_its_watchdog_along(daemon: Daemon) -> None:
    pid = waiting(daemon)
    watchdog = daemon.names()["chaosd-watchdog"]
    kill(pid)
    until(lambda: watchdog not in daemon.family(), "its watchdog is left")
    time.sleep(0.5)
    assert "chaosd-ahead" not in daemon.names(), "what has killed it may kill the next, and so on"
    run = daemon.pause(daemon.sleeper(), "100ms")
    told = daemon.events(run)
    assert engine(daemon, run) != pid
    assert told[-1]["verdict"] == "passed"
    assert waiting(daemon) != pid


def test_one_whose_watchdog_was_killed_gets_another(daemon: Daemon) -> None:
    pid, watchdog = waiting(daemon), daemon.names()["chaosd-watchdog"]
    kill(watchdog)
    run = daemon.pause(daemon.sleeper())
    daemon.wait_phase(run, "fault")
    assert engine(daemon, run) == pid
    assert daemon.names()["chaosd-watchdog"] != watchdog
    daemon.post("/v1/stop", {"all": True})


def test_one_that_was_stopped_does_its_order(daemon: Daemon) -> None:
    pid = waiting(daemon)
    os.kill(pid, signal.SIGSTOP)
    run = daemon.pause(daemon.sleeper(), "100ms")
    assert daemon.events(run)[-1]["verdict"] == "passed"
    assert engine(daemon, run) == pid


def test_its_watchdog_puts_back_what_it_has_done(daemon: Daemon) -> None:
    target = daemon.sleeper()
    before, pid = dump.process(target), waiting(daemon)
    run = daemon.pause(target)
    daemon.wait_phase(run, "fault")
    assert dump.process(target) != before
    kill(pid)
    until(lambda: not daemon.journals(), "not put back")
    assert dump.process(target) == before
    until(lambda: daemon.get(f"/v1/runs/{run}")["verdict"] == "killed", "not on record")


@pytest.mark.parametrize("dies", ["daemon", "zygote"])
def test_it_is_gone_with_those_who_keep_it(daemon: Daemon, dies: str) -> None:
    waiting(daemon)
    os.kill(daemon.names()["chaosd-zygote"] if dies == "zygote" else daemon.process.pid, signal.SIGKILL)
    daemon.process.wait(30)
    until(lambda: not daemon.family(), "processes are left", 2)


def test_of_two_orders_at_once_one_is_done_and_a_plan_is_made(daemon: Daemon) -> None:
    waiting(daemon)
    text, targets = daemonized.PAUSE.format(duration="60s"), [f"pid:{daemon.sleeper()}" for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        paths = (("/v1/runs", targets[0]), ("/v1/runs", targets[0]), ("/v1/plans", targets[1]))
        asked = [pool.submit(daemon.ask, "POST", path, {"text": text, "target": aim}) for path, aim in paths]
        *runs, plan = [each.result()[0] for each in asked]
    assert (sorted(runs), plan) == ([200, 409], 200)
    daemon.post("/v1/stop", {"all": True})


# The zygote by itself.


def tell_pid(order: dict[str, Any], tell: Tell) -> int:
    tell({"pid": os.getpid()})
    time.sleep(order["for"])
    return 0


@contextmanager
def zygote(rehearse: Callable[[], None], stock: Callable[[], bool] = lambda: False) -> Iterator[Zygote]:
    made = Zygote({"quick": tell_pid, "other": tell_pid}, {"quick": rehearse}, stock)
    try:
        yield made
    finally:
        made.close()


def child(made: Zygote, deed: str, seconds: float = 0) -> int:
    """The pid of the child that an order is given to."""
    pidfd, end = made.order(deed, 1, **{"for": seconds})
    os.close(pidfd)
    with end, end.makefile("rb") as told:
        return int(json.loads(told.readline())["pid"])


def ahead(made: Zygote) -> list[int]:
    text = Path(f"/proc/{made.pid}/task/{made.pid}/children").read_text("ascii")
    return [pid for pid in map(int, text.split()) if named(pid) in ("chaosd-rehearse", "chaosd-ahead")]


def named(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
    return ""


def ready(made: Zygote) -> int:
    """The one that waits, once it does."""

    def waits() -> bool:
        return any("skb" in Path(f"/proc/{pid}/wchan").read_text("ascii") for pid in ahead(made))

    until(waits, "nobody waits")
    (pid,) = ahead(made)
    return pid


def test_only_the_deed_that_was_rehearsed_is_given_to_it() -> None:
    with zygote(lambda: None) as made:
        pid = ready(made)
        assert child(made, "other") != pid
        assert child(made, "quick", 1) == pid
        assert child(made, "quick", 1) != pid, "two at once"
        assert not ahead(made), "not while one is at work"
        assert ready(made) != pid


def test_one_that_still_rehearses_keeps_nobody_waiting() -> None:
    with zygote(lambda: time.sleep(600)) as made:
        until(lambda: ahead(made), "nobody rehearses")
        (pid,) = ahead(made)
        assert child(made, "quick") != pid
        assert ahead(made) == [pid]
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has outlived the zygote", 2)


def test_one_that_fails_in_its_rehearsal_is_not_made_over_and_over(capfd: pytest.CaptureFixture[str]) -> None:
    with zygote(lambda: os._exit(3)) as made:
        time.sleep(0.5)
        assert child(made, "quick")
        with open(f"/proc/{made.pid}/stat", encoding="utf-8") as file:
            assert int(file.read().rpartition(")")[2].split()[11]) < 50, "ticks of 10 ms"


def test_it_has_what_is_in_stock_now(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    with zygote(lambda: None, fresh.exists) as made:
        pid = ready(made)
        child(made, "other")
        time.sleep(0.5)
        assert ready(made) == pid
        fresh.touch()
        child(made, "other")
        until(lambda: pid not in ahead(made), "it has what was there before")
