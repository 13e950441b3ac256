"""``schedule``: runs by the calendar."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from chaosd import client
from chaosd.cli import complete
from chaosd.cli.output import print_json
from chaosd.cli.run import set_option
from chaosd.client import ForbiddenError
from chaosd.errors import ChaosdError

if TYPE_CHECKING:
    from chaosd.orchestrate.scheduler import Due
    from chaosd.report.fold import View

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@click.group()
def schedule() -> None:
    """Run scenarios by the calendar.

    A schedule is a file in /etc/chaosd/schedules.d, which may as well be written by hand. Where the daemon
    serves, members of its group add, list and pause them, and remove those that they have added.
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
    data = {key: value for key, value in given.items() if value is not None}
    if settings:
        data["set"] = settings
    if client.instead():
        _tell(_added(name, scenario, data), as_json)
        return
    from pathlib import Path

    from chaosd.orchestrate import schedule as schedules
    from chaosd.scenario import library

    _check_root()
    if scenario not in library() and Path(scenario).is_file():
        scenario = str(Path(scenario).resolve())
    schedules.add(name, {"scenario": scenario, **data})
    _tell(_resumed(name), as_json)


def _added(name: str, scenario: str, data: dict[str, Any]) -> dict[str, Any]:
    told = client.named(scenario)
    told.pop("folder", None)  # the daemon keeps the scenario in a folder of its own
    try:
        return dict(client.ask("POST", "/v1/schedules", {"name": name, **told, **data}))
    except ForbiddenError:
        raise
    except ChaosdError:
        from chaosd.scenario import load

        own = {key: data[key] for key in ("target", "duration", "seed") if key in data}
        load(scenario, data.get("set", {}) | own)  # says what is wrong by the name that it has here
        raise


def _resumed(name: str) -> dict[str, Any]:
    """The daemon is told, for it would look only in a minute."""
    if client.wanted():
        return _asked(name, "resume")
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import scheduler, timetable

    found = schedules.find(name)
    scheduler.resume(name, time.time())
    return timetable.row(found)


def _asked(name: str, deed: str) -> dict[str, Any]:
    return dict(client.ask("POST", f"/v1/schedules/{quote(name, safe='')}/{deed}", {}))


@schedule.command("list")
@_json
def list_schedules(as_json: bool) -> None:
    """List every schedule, when it is due next and when it was last run."""
    rows, problems = _known()
    if as_json:
        print_json({"schedules": rows, "problems": problems})
        return
    for row in rows:
        click.echo(_line(row))
    for problem in problems:
        click.echo(f"chaosd: {problem}", err=True)
    if not rows and not problems:
        click.echo("there are no schedules; see: chaosd schedule add --help")


def _known() -> tuple[list[dict[str, Any]], list[str]]:
    if client.instead():
        told = client.ask("GET", "/v1/status")
        return told["schedules"], told["problems"]
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import timetable

    _check_root()
    found, problems = schedules.read_all()
    return [timetable.row(each) for each in found], problems


@schedule.command()
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show a schedule, and when it is due next."""
    row = _found(name)
    if as_json:
        print_json(row)
        return
    click.echo(_line(row))
    for at in row["next"]:
        click.echo(f"  {at}")


def _found(name: str) -> dict[str, Any]:
    if client.instead():
        return dict(client.ask("GET", f"/v1/schedules/{quote(name, safe='')}"))
    from chaosd.orchestrate import schedule as schedules
    from chaosd.orchestrate import timetable

    _check_root()
    return timetable.row(schedules.find(name))


@schedule.command()
@click.argument("name")
@_json
def remove(name: str, as_json: bool) -> None:
    """Delete the schedule NAME and what is known of it."""
    if client.instead():
        _asked(name, "remove")
    else:
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
    if client.instead():
        _asked(name, "pause")
    else:
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
    if not client.wanted():
        _check_root()
    _tell(_resumed(name), as_json)


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
    last = f"  last {row['last']}" if row["last"] else ""
    by = f"  added by {row['added_by']}" if row["added_by"] else ""
    return f"{row['name']}  {row['cron']}  {row['scenario']}{target}  {coming}{last}{by}"


def _tell(data: dict[str, Any], as_json: bool, text: str = "") -> None:
    if as_json:
        print_json(data)
    else:
        click.echo(text or _line(data))
