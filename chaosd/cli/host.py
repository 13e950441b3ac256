"""``status``, ``stop`` and ``revert``: what is going on, and how to end it."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli.output import print_json

if TYPE_CHECKING:
    from chaosd.kernel.process import ProcessRef
    from chaosd.report.fold import View

_PATIENCE = 30.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
@click.option("--follow", is_flag=True, help="Keep showing it until the run ends.")
def status(as_json: bool, follow: bool) -> None:
    """Show the run that is live on this host, and runs that died and are not put back."""
    views = _live()
    if as_json:
        print_json([_summary(view) for view in views.values()])
        return
    if not views:
        click.echo("no run is live on this host; nothing waits to be put back")
        return
    from chaosd.cli import render

    for path, view in views.items():
        if follow and _owner(view).alive():
            render.follow(path)
        else:
            render.status(view, alive=_owner(view).alive())


@click.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="End every live run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def stop(run: str | None, everything: bool, as_json: bool) -> None:
    """End a live run; its engine puts everything back and this command waits for it."""
    from chaosd.errors import Exit

    chosen = {p: v for p, v in _choose(run, everything).items() if _owner(v).alive()}
    if not chosen:
        _say(as_json, [], "no run is live on this host")
        return
    for view in chosen.values():
        _signal(_owner(view), signal.SIGTERM)
    stuck = [view.run for path, view in chosen.items() if not _wait_gone(path)]
    if stuck:
        _say(as_json, stuck, f"run {', '.join(stuck)} did not end", "chaosd revert --all")
        sys.exit(Exit.NOT_RESTORED)
    _say(as_json, [view.run for view in chosen.values()], "stopped; host restored")


@click.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run, live or dead.")
@click.option("--scrub", is_flag=True, help="Also remove leftovers of chaosd that no journal knows.")
@click.option(
    "--overdue", is_flag=True, help="Only if its time is over and something is left of it: for timers."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def revert(run: str | None, everything: bool, scrub: bool, overdue: bool, as_json: bool) -> None:
    """Put back what a run changed. Needs no daemon, works on any state, can be repeated.

    A live run is ended first, by force if it does not answer.
    """
    from chaosd.errors import Exit

    problems, done = [], []
    chosen = _overdue(run) if overdue else _choose(run, everything or scrub)
    for path, view in chosen.items():
        problems += _revert_one(path, view)
        done += [] if path.exists() else [view.run]
    if scrub and not problems:
        from chaosd.restore import scrub as scrub_host

        removed, kept = scrub_host()
        done, problems = done + removed, problems + kept
    if problems:
        _say(as_json, problems, "NOT restored:\n  " + "\n  ".join(problems), "mend the cause and repeat")
        sys.exit(Exit.NOT_RESTORED)
    _say(as_json, done, f"put back: {', '.join(done)}; host restored" if done else "nothing to put back")


def _revert_one(path: Path, view: View) -> list[str]:
    from chaosd.errors import ChaosdError
    from chaosd.journal import Journal
    from chaosd.restore import close_out

    owner = _owner(view)
    if owner.alive():
        _signal(owner, signal.SIGTERM)
        if not _wait_gone(path, 10.0):
            _signal(owner, signal.SIGKILL)
    try:
        journal = Journal.take_over(path, _PATIENCE)
    except ChaosdError as error:
        return [str(error)]
    if journal is None:
        return []
    try:
        return close_out(journal, "killed", "put back by hand")
    finally:
        journal.close()


def _live() -> dict[Path, View]:
    from chaosd.errors import ChaosdError
    from chaosd.journal import live
    from chaosd.report import fold

    if os.geteuid() != 0:
        raise ChaosdError("the journals of runs are for root", hint="sudo chaosd ...")
    return {path: fold.of(path) for path in live()}


def _choose(run: str | None, everything: bool) -> dict[Path, View]:
    from chaosd.document import near
    from chaosd.errors import ChaosdError

    views = _live()
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


def _overdue(run: str | None) -> dict[Path, View]:
    from chaosd.errors import ChaosdError

    found = {path: view for path, view in _live().items() if run in (None, view.run)}
    for path, view in list(found.items()):
        left = view.fault_ends - time.clock_gettime(time.CLOCK_BOOTTIME)
        if not _owner(view).alive():
            continue
        if not view.open_edits():  # all is put back; it may wait for its target to recover
            del found[path]
        elif left > 0:
            raise ChaosdError(f"run {view.run} has {left:.0f} s left", hint=f"chaosd stop {view.run}")
    return found


def _owner(view: View) -> ProcessRef:
    from chaosd.kernel.process import ProcessRef

    return ProcessRef(**view.process) if view.process else ProcessRef(0, 0)


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


def _summary(view: View) -> dict[str, Any]:
    return view.brief() | {"alive": _owner(view).alive(), "open_edits": view.open_edits()}


def _say(as_json: bool, items: list[str], text: str, hint: str = "") -> None:
    if as_json:
        print_json({"items": items, "message": text, "hint": hint})
        return
    click.echo(text)
    if hint:
        click.echo(f"  hint: {hint}")
