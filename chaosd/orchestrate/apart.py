"""A run in a process of its own, so that many can follow each other from one that lives on.

The engine keeps descriptors, memory and signal handlers for as long as its process lives, and a
watchdog that finds it hung kills that process. The records of its journal come through a pipe.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

import msgspec

from chaosd import engine
from chaosd.errors import ChaosdError, Exit, NotRestoredError, TargetLostError, UnsupportedError
from chaosd.interrupt import WANTED
from chaosd.journal import Record, read
from chaosd.orchestrate.waiting import Stop
from chaosd.places import history_dir, run_dir
from chaosd.report.fold import View
from chaosd.restore import STALE_TIMEOUT
from chaosd.scenario import Scenario
from chaosd.verdict import VERDICTS

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ERRORS = {kind.exit: kind for kind in (ChaosdError, UnsupportedError, TargetLostError, NotRestoredError)}

Show = Callable[[Record, View], None]


def status(view: View) -> Exit:
    """The exit status of a run; one that was killed has failed."""
    return VERDICTS.get(view.verdict, Exit.FAILED)


def run(scenario: Scenario, stop: Stop, show: Show = lambda *_: None, *, confirmed: bool = False) -> View:
    """Do a run and wait for its end; a signal that ``stop`` notes ends it in order.

    Args:
        scenario: what to do.
        stop: notes signals; its block lasts around this call.
        show: is given every record of the journal, and the run's state after it.
        confirmed: the user has said yes to a radius of the entire system.

    Returns:
        The run as it ended. One that was refused before it began has a verdict and a reason alone.
    """
    view = View(scenario=scenario.name)

    def note(record: Record) -> None:
        view.add(record)
        show(record, view)

    try:
        ended = _execute(scenario, stop, note, confirmed=confirmed)
    except ChaosdError as error:
        ended, view.reason = error.exit, str(error)
    if not view.verdict:
        view.verdict = next(name for name, number in VERDICTS.items() if number == ended)
    return view


def _execute(scenario: Scenario, stop: Stop, note: Callable[[Record], None], *, confirmed: bool) -> Exit:
    reader, writer = os.pipe()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
    try:
        pid = os.fork()
        if pid == 0:
            _child(scenario, writer, parent, confirmed)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WANTED)
    os.close(writer)
    child = os.pidfd_open(pid)
    try:
        return _follow(reader, child, stop, note)
    finally:
        os.waitpid(pid, 0)
        os.close(child)
        os.close(reader)


def _follow(reader: int, child: int, stop: Stop, note: Callable[[Record], None]) -> Exit:
    run, count = "", 0
    for record in _records(reader, child, stop):
        match record["type"]:
            case "returned":
                return Exit(record["exit"])
            case "refused":
                raise _ERRORS[Exit(record["exit"])](record["message"], hint=record["hint"])
            case "run":
                run = record["run"]
        note(record)
        count += 1
    if not run:
        return Exit.INTERRUPTED if stop.number else Exit.FAILED
    return _after_death(run, count, note)


def _records(reader: int, child: int, stop: Stop) -> Iterator[Record]:
    """What the child writes, until it dies; meanwhile it is told of a signal, once."""
    os.set_blocking(reader, False)
    rest = b""
    watched: list[Any] = [reader, child, stop]
    while True:
        ready = select.select(watched, [], [])[0]
        if stop in ready:
            signal.pidfd_send_signal(child, stop.number)
            watched.remove(stop)
        *lines, rest = (rest + _drain(reader)).split(b"\n")
        yield from map(msgspec.json.decode, lines)
        if child in ready:
            return


def _drain(reader: int) -> bytes:
    parts = []
    with suppress(BlockingIOError):
        while part := os.read(reader, 1 << 16):
            parts.append(part)
    return b"".join(parts)


def _after_death(run: str, count: int, note: Callable[[Record], None]) -> Exit:
    """What the watchdog made of a run whose engine was killed."""
    live, end = run_dir() / f"{run}.jsonl", time.monotonic() + STALE_TIMEOUT
    while live.exists() and time.monotonic() < end:
        time.sleep(0.05)
    if live.exists():
        raise NotRestoredError(f"run {run} was killed, and is not put back", hint="chaosd revert --all")
    for record in [*read(history_dir() / f"{run}.jsonl")][count:]:
        note(record)
    return Exit.FAILED


def _child(scenario: Scenario, writer: int, parent: int, confirmed: bool) -> NoReturn:
    def send(record: Record) -> None:
        rest = msgspec.json.encode(record) + b"\n"
        while rest:
            rest = rest[os.write(writer, rest) :]

    try:
        # until the engine has handlers of its own, and after them, nothing is changed on this host
        for number in WANTED:
            signal.signal(number, lambda *_: os._exit(Exit.INTERRUPTED))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WANTED)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(Exit.INTERRUPTED)
        send({"type": "returned", "exit": int(engine.execute(scenario, send, confirmed=confirmed))})
    except ChaosdError as error:
        told = {"message": error.message, "hint": error.hint, "exit": int(error.exit)}
        send({"type": "refused", **told})
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(Exit.FAILED)
