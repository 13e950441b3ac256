"""Ending runs and putting them back from outside, whoever has started them; needs no daemon."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from chaosd import restore
from chaosd.document import near
from chaosd.errors import ChaosdError
from chaosd.journal import Journal
from chaosd.journal import live as journals
from chaosd.kernel import cgroup_scrub
from chaosd.kernel.process import ProcessRef
from chaosd.report import fold
from chaosd.report.brief import owner
from chaosd.report.fold import View

_PATIENCE = 30.0
_BEFORE_FORCE = 10.0

Views = dict[Path, View]


def live() -> Views:
    """The runs that are live on this host, and those that died and are not put back, by their journals.

    Raises:
        ChaosdError: they are for root.
    """
    if os.geteuid() != 0:
        raise ChaosdError("the journals of runs are for root", hint="sudo chaosd ...")
    return {path: view for path in journals() if (view := _readable(path))}


def _readable(path: Path) -> View | None:
    with suppress(FileNotFoundError):  # it has ended just now
        return fold.of(path)
    return None


def choose(run: str | None, *, everything: bool = False) -> Views:
    """The live runs that are meant: the one of this id, the only one, or with ``everything`` all.

    Raises:
        ChaosdError: there is no such run, or more than one and none is named.
    """
    views = live()
    if run is None:
        if len(views) > 1 and not everything:
            runs = ", ".join(view.run for view in views.values())
            raise ChaosdError(f"there is more than one run: {runs}", hint="name one, or say --all")
        return views
    chosen = {path: view for path, view in views.items() if view.run == run}
    if not chosen:
        known = [view.run for view in views.values()]
        raise ChaosdError(f"no live run {run!r}", hint=near(run, known) if known else "none is live")
    return chosen


def overdue(run: str | None) -> Views:
    """Of the run of this id, or all, those whose time is over and of which something is left.

    Raises:
        ChaosdError: its time is not over.
    """
    found = {path: view for path, view in live().items() if run in (None, view.run)}
    for path, view in list(found.items()):
        left = view.fault_ends - time.clock_gettime(time.CLOCK_BOOTTIME)
        if not owner(view).alive():
            continue
        if not view.open_edits():  # all is put back; it may wait for its target to recover
            del found[path]
        elif left > 0:
            raise ChaosdError(f"run {view.run} has {left:.0f} s left", hint=f"chaosd stop {view.run}")
    return found


def stop(chosen: Views) -> tuple[list[str], list[str]]:
    """Have the engines of these runs end, and wait; each puts everything back.

    Returns:
        The runs that were alive, and those of them that did not end within half a minute.
    """
    alive = {path: view for path, view in chosen.items() if owner(view).alive()}
    for view in alive.values():
        _signal(owner(view), signal.SIGTERM)
    stuck = [view.run for path, view in alive.items() if not _wait_gone(path)]
    return [view.run for view in alive.values()], stuck


def revert(chosen: Views) -> tuple[list[str], list[str]]:
    """Put back what these runs changed; a live one is ended first, by force if it does not answer.

    Returns:
        The runs that are put back, and a line for each edit that is not.
    """
    done, problems = [], []
    cgroup_scrub.sweep()
    for path, view in chosen.items():
        problems += _revert(path, view)
        done += [] if path.exists() else [view.run]
    return done, problems


def _revert(path: Path, view: View) -> list[str]:
    engine = owner(view)
    if engine.alive():
        _signal(engine, signal.SIGTERM)
        if not _wait_gone(path, _BEFORE_FORCE):
            _signal(engine, signal.SIGKILL)
    try:
        journal = Journal.take_over(path, _PATIENCE)
    except ChaosdError as error:
        return [str(error)]
    if journal is None:
        return []
    try:
        return restore.close_out(journal, "killed", "put back by hand")
    finally:
        journal.close()


def _signal(process: ProcessRef, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        fd = process.pidfd()
        try:
            signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def _wait_gone(path: Path, seconds: float = _PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not path.exists()
