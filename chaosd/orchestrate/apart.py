"""A run in a process of its own, so that many can follow each other from one that lives on.

The engine keeps descriptors, memory and signal handlers for as long as its process lives, and a
watchdog that finds it hung kills that process. The records of its journal come through a pipe.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NoReturn, Protocol

import msgspec

from chaosd import engine
from chaosd.errors import ChaosdError, Exit, NotRestoredError, of_data, to_data
from chaosd.interrupt import WANTED
from chaosd.journal import Record, read
from chaosd.orchestrate.waiting import Stop
from chaosd.places import history_dir, run_dir
from chaosd.report.fold import View
from chaosd.restore import STALE_TIMEOUT
from chaosd.scenario import Scenario
from chaosd.verdict import VERDICTS

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PATIENCE = 1.0  # under what the watchdog gives a silent engine

Show = Callable[[Record, View], None]


class Asked(Protocol):
    """Whether an end is asked for: ``number`` is the signal that says so, or 0; readable from then on."""

    @property
    def number(self) -> int: ...  # noqa: D102

    def fileno(self) -> int: ...  # noqa: D102


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
    watching = [show]

    def note(record: Record) -> None:
        view.add(record)
        for each in watching:
            try:
                each(record, view)
            except Exception:  # noqa: BLE001 - as in the journal: who watches must not be able to stop a run
                watching.clear()

    try:
        ended = _execute(scenario, stop, note, confirmed=confirmed)
    except ChaosdError as error:
        ended, view.reason = error.exit, str(error)
    if not view.verdict:
        view.verdict = next(name for name, number in VERDICTS.items() if number == ended)
        view.reason = view.reason or ("its process died" if ended is Exit.FAILED else "before it began")
    return view


def _execute(scenario: Scenario, stop: Stop, note: Callable[[Record], None], *, confirmed: bool) -> Exit:
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
    try:
        pid = os.fork()
        if pid == 0:
            obey(lambda: scenario, writer, parent, confirmed=confirmed)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(writer)
    child = os.pidfd_open(pid)
    try:
        return follow(reader, child, stop, note)
    finally:
        os.waitpid(pid, 0)
        os.close(child)
        os.close(reader)


def follow(reader: int, child: int, stop: Asked, note: Callable[[Record], None]) -> Exit:
    """Note every record of a run that a child does, until it has ended and the host is put back.

    Args:
        reader: where ``obey`` writes to.
        child: a pidfd of the child.
        stop: ends the run in order.
        note: is given the records.

    Raises:
        ChaosdError: it was refused before it began.
        NotRestoredError: its engine was killed, and something of it is left.
    """
    run, count, ended = "", 0, Exit.FAILED
    for record in _records(reader, child, stop):
        match record["type"]:
            case "returned":
                ended = Exit(record["exit"])
                continue
            case "refused":
                raise of_data(record)
            case "run":
                run = record["run"]
        note(record)
        count += 1
    if not run:
        return Exit.INTERRUPTED if stop.number else ended
    _await_end(run, ended)
    # what came too fast for the pipe, and what the watchdog of an engine that was killed has written
    for record in [*_finished(run)][count:]:
        note(record)
    return ended


def _records(reader: int, child: int, stop: Asked) -> Iterator[Record]:
    """What the child writes, until it dies; meanwhile it is told of a signal, once."""
    rest, asking = b"", stop.fileno()
    watched = select.poll()  # select(2) knows no descriptor above 1023, which a program may well have
    for fd in (reader, child, asking):
        watched.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in watched.poll()}
        if asking in ready:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, stop.number)
            watched.unregister(asking)
        *lines, rest = (rest + _drain(reader)).split(b"\n")
        for line in lines:
            with suppress(msgspec.DecodeError):  # torn, or empty
                yield msgspec.json.decode(line)
        if child in ready:
            return


def _drain(reader: int) -> bytes:
    parts = []
    with suppress(BlockingIOError, ConnectionResetError):
        while part := os.read(reader, 1 << 16):
            parts.append(part)
    return b"".join(parts)


def _await_end(run: str, ended: Exit) -> None:
    """Wait until the watchdog of a run whose engine was killed has put everything back."""
    live, end = run_dir() / f"{run}.jsonl", time.monotonic() + STALE_TIMEOUT
    while ended is Exit.FAILED and live.exists() and time.monotonic() < end:
        time.sleep(0.05)
    if ended is Exit.FAILED and live.exists():
        raise NotRestoredError(f"run {run} was killed, and is not put back", hint="chaosd revert --all")


def _finished(run: str) -> Iterator[Record]:
    places = (history_dir() / f"{run}.jsonl", run_dir() / f"{run}.jsonl")
    return next((read(place) for place in places if place.exists()), iter(()))


def _send(writer: int, record: Record, patience: float | None = None) -> None:
    rest = msgspec.json.encode(record) + b"\n"
    while rest:
        if not select.select([], [writer], [], patience)[1]:
            raise TimeoutError
        rest = rest[os.write(writer, rest) :]


def obey(
    make: Callable[[], Scenario], writer: int, parent: int, *, confirmed: bool, until: int | None = None
) -> NoReturn:
    """Be the process of a run, which ends in order when the thread that has started it dies.

    Args:
        make: gives the scenario, or raises what is wrong with it.
        writer: where the records go, a line each; not blocking.
        parent: the pid of the process that has started this one.
        confirmed: the user has said yes to a radius of the entire system.
        until: as ``engine.execute`` has it.
    """

    def tell(record: Record) -> None:
        # an engine must not wait for who watches it; the journal tells the rest
        _send(writer, record, _PATIENCE)

    try:
        # until the engine has handlers of its own, and after them, nothing is changed on this host
        for number in WANTED:
            signal.signal(number, lambda *_: sys.exit(Exit.INTERRUPTED))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WANTED)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(Exit.INTERRUPTED)
        status = engine.execute(make(), tell, confirmed=confirmed, until=until)
        os.write(writer, b"\n")  # what went before may be torn
        _send(writer, {"type": "returned", "exit": int(status)})
    except ChaosdError as error:
        _send(writer, {"type": "refused", **to_data(error)})
    except (SystemExit, BrokenPipeError):
        pass  # by a signal; or who was to be told is dead
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(Exit.FAILED)
