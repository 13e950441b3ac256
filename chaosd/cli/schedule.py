"""``schedule``: runs by the calendar."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli import complete
from chaosd.cli.output import print_json
from chaosd.cli.run import set_option

if TYPE_CHECKING:
    from chaosd.orchestrate.scheduler import Due
    from chaosd.report.fold import View

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@click.group()
def schedule() -> None:
    """Run scenarios by the calendar.

    A schedule is a file in /etc/chaosd/schedules.d, which may as well be written by hand.
    """


@schedule.command()
@click.argument("name")
@click.argument("scenario", shell_complete=complete.scenario)
@click.option("--cron", required=True, metavar="'0 3 * * 1'",
              help="Minute, hour, day, month, day of the week; a field of seconds may go first.")  # fmt: skip
@click.option("--target", metavar="T", shell_complete=complete.target, help="What to aim at.")
@set_option
@click.option("--duration", metavar="D", help="How long the fault lasts, such as 30s; at most 30m.")
@click.option("--seed", type=int, help="Seed of every random choice; the same seed, the same choices.")
@click.option("--jitter", metavar="D", help="Put each run off by some part of this, such as 10m.")
@click.option("--missed", type=click.Choice(["skip", "run-once"]),
              help="What becomes of runs that were due while nobody was there; skip by default.")  # fmt: skip
@click.option("--timezone", metavar="ZONE", help="Such as Europe/Berlin; the host's own if not given.")
@_json
def add(name: str, scenario: str, settings: dict[str, Any], as_json: bool, **given: Any) -> None:
    """Write the schedule NAME, by which SCENARIO is run."""
    from pathlib import Path

    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import scheduler, timetable
    from chaosd.scenario import library

    _check_root()
    if scenario not in library() and Path(scenario).is_file():
        scenario = str(Path(scenario).resolve())
    data = {"scenario": scenario, "set": settings or None, **given}
    added = schedules.add(name, {key: value for key, value in data.items() if value is not None})
    scheduler.resume(name, time.time())
    _tell(timetable.row(added), as_json)


@schedule.command("list")
@_json
def list_schedules(as_json: bool) -> None:
    """List every schedule, when it is due next and when it was last run."""
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import timetable

    _check_root()
    found, problems = schedules.read_all()
    rows = [timetable.row(each) for each in found]
    if as_json:
        print_json({"schedules": rows, "problems": problems})
        return
    for row in rows:
        click.echo(_line(row))
    for problem in problems:
        click.echo(f"chaosd: {problem}", err=True)
    if not rows and not problems:
        click.echo("there are no schedules; see: chaosd schedule add --help")


@schedule.command()
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show a schedule, and when it is due next."""
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import timetable

    _check_root()
    row = timetable.row(schedules.find(name))
    if as_json:
        print_json(row)
        return
    click.echo(_line(row))
    for at in row["next"]:
        click.echo(f"  {at}")


@schedule.command()
@click.argument("name")
@_json
def remove(name: str, as_json: bool) -> None:
    """Delete the schedule NAME and what is known of it."""
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import scheduler

    _check_root()
    schedules.remove(name)
    scheduler.forget(name)
    _tell({"name": name, "removed": True}, as_json, f"{name}: removed")


@schedule.command()
@click.argument("name")
@_json
def pause(name: str, as_json: bool) -> None:
    """Let the schedule NAME rest; what becomes due meanwhile is not run afterwards."""
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import scheduler

    _check_root()
    schedules.find(name)
    scheduler.pause(name)
    _tell({"name": name, "paused": True}, as_json, f"{name}: paused")


@schedule.command()
@click.argument("name")
@_json
def resume(name: str, as_json: bool) -> None:
    """Let the schedule NAME be due again, from now on."""
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import scheduler, timetable

    _check_root()
    found = schedules.find(name)
    scheduler.resume(name, time.time())
    _tell(timetable.row(found), as_json)


@schedule.command()
@click.option("--json", "as_json", is_flag=True, help="Print lines of JSON, one for each event.")
def run(as_json: bool) -> None:
    """Run what is due, in the foreground, until a signal comes.

    One run at a time: what becomes due meanwhile waits for its end. The exit status is 0, that of a run
    which the signal has ended, or 10 if something could not be put back.
    """
    from chaosd.orchestrate import state
    from chaosd.orchestrate.scheduler import Scheduler
    from chaosd.orchestrate.waiting import Stop

    _check_root()

    def tell(what: str, due: Due | None, view: View | None) -> None:
        _event(what, due, view, as_json)

    held = state.hold("schedule")
    try:
        with Stop() as stop:
            sys.exit(Scheduler(time.time()).run(stop, tell))
    finally:
        os.close(held)


def _check_root() -> None:
    from chaosd.errors import ChaosdError

    if os.geteuid() != 0:
        raise ChaosdError("schedules are for root", hint="sudo chaosd ...")


def _event(what: str, due: Due | None, view: View | None, as_json: bool) -> None:
    from chaosd.orchestrate import timetable

    if as_json:
        import msgspec

        data: dict[str, Any] = {"event": what}
        if due is not None:
            data |= {"schedule": due.schedule.name, "due": timetable.moment(due.schedule, due.at)}
        click.echo(msgspec.json.encode(data | ({"run": view.brief()} if view is not None else {})).decode())
        return
    said = (
        f"{timetable.moment(due.schedule, due.at)}  {due.schedule.name}: {what}" if due is not None else what
    )
    if view is not None:
        said += f": run {view.run or '-'} {view.verdict}" + (f": {view.reason}" if view.reason else "")
    click.echo(said)


def _line(row: dict[str, Any]) -> str:
    target = f" on {row['target']}" if row["target"] else ""
    coming = "paused" if row["paused"] else f"next {row['next'][0]}" if row["next"] else "never due again"
    return f"{row['name']}  {row['cron']}  {row['scenario']}{target}  {coming}" + (
        f"  last {row['last']}" if row["last"] else ""
    )


def _tell(data: dict[str, Any], as_json: bool, text: str = "") -> None:
    if as_json:
        print_json(data)
    else:
        click.echo(text or _line(data))
