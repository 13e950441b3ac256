"""``status``, ``stop`` and ``revert``: what is going on, and how to end it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli.output import print_json

if TYPE_CHECKING:
    from pathlib import Path

    from chaosd.report.fold import View


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
@click.option("--follow", is_flag=True, help="Keep showing it until the run ends.")
def status(as_json: bool, follow: bool) -> None:
    """Show the run that is live on this host, and runs that died and are not put back."""
    from chaosd import client

    told = _told()
    if client.instead():
        runs = told["live"]
        if not as_json and runs:
            _show_told(runs, follow)
    else:
        from chaosd import byhand
        from chaosd.report.brief import summary

        views = byhand.live()
        runs = [summary(view) for view in views.values()]
        if not as_json:
            _show(views, follow)
    if as_json:
        print_json(runs)
        return
    if not runs:
        click.echo("no run is live on this host; nothing waits to be put back")
    _show_calendar(told)


def _told() -> dict[str, Any]:
    import os

    from chaosd import client
    from chaosd.errors import ChaosdError

    try:
        return dict(client.ask("GET", "/v1/status")) if client.wanted() else {}
    except ChaosdError as error:
        if os.geteuid() != 0:
            raise
        return {"problems": [str(error)]}  # root can look without it


def _show(views: dict[Path, View], follow: bool) -> None:
    from chaosd.cli import render
    from chaosd.report.brief import owner

    for path, view in views.items():
        alive = owner(view).alive()
        if follow and alive:
            render.follow(path)
        else:
            render.status(view, alive=alive)


def _show_told(runs: list[dict[str, Any]], follow: bool) -> None:
    import msgspec

    from chaosd import client
    from chaosd.cli import render
    from chaosd.report.fold import View

    for run in runs:
        if follow and run["alive"]:
            render.follow_told(client.events(run["run"]))
        else:
            render.status(msgspec.convert(run, View, str_keys=True), alive=run["alive"])


def _show_calendar(told: dict[str, Any]) -> None:
    for row in told.get("schedules", []):
        coming = "paused" if row["paused"] else f"next {row['next'][0]}" if row["next"] else "never due again"
        click.echo(f"schedule {row['name']}: {row['scenario']}, {coming}")
    if monkey := told.get("monkey"):
        click.echo(next(monkey_lines(monkey)))
    for problem in told.get("problems", []):
        click.echo(f"problem: {problem}")


def monkey_lines(row: dict[str, Any]) -> Iterator[str]:
    """The daemon's monkey in a line, and what it has decided last in another."""
    yield f"monkey {row['name']}: " + ("paused" if row["paused"] else f"next tick {row['next']}")
    if last := row["last"]:
        did = f"{last['scenario']} on {last['target']}" if last["scenario"] else f"nothing: {last['why_not']}"
        yield f"  last {last['at']}  {did}"


@click.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="End every live run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def stop(run: str | None, everything: bool, as_json: bool) -> None:
    """End a live run; its engine puts everything back and this command waits for it."""
    from chaosd import client
    from chaosd.errors import Exit

    if client.instead():
        told = client.ask("POST", "/v1/stop", {"run": run, "all": everything})
        stopped, stuck = told["runs"], told["stuck"]
    else:
        from chaosd import byhand

        stopped, stuck = byhand.stop(byhand.choose(run, everything=everything))
    if stuck:
        _say(as_json, stuck, f"run {', '.join(stuck)} did not end", "chaosd revert --all")
        sys.exit(Exit.NOT_RESTORED)
    _say(as_json, stopped, "stopped; host restored" if stopped else "no run is live on this host")


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
    from chaosd import client
    from chaosd.errors import Exit

    if client.instead() and not overdue:
        told = client.ask("POST", "/v1/revert", {"run": run, "all": everything, "scrub": scrub})
        done, problems = told["done"], told["problems"]
    else:
        from chaosd import byhand

        chosen = byhand.overdue(run) if overdue else byhand.choose(run, everything=everything or scrub)
        done, problems = byhand.revert(chosen)
        if scrub and not problems:
            from chaosd.restore import scrub as scrub_host

            removed, problems = scrub_host()
            done += removed
    if problems:
        _say(as_json, problems, "NOT restored:\n  " + "\n  ".join(problems), "mend the cause and repeat")
        sys.exit(Exit.NOT_RESTORED)
    _say(as_json, done, f"put back: {', '.join(done)}; host restored" if done else "nothing to put back")


def _say(as_json: bool, items: list[str], text: str, hint: str = "") -> None:
    if as_json:
        print_json({"items": items, "message": text, "hint": hint})
        return
    click.echo(text)
    if hint:
        click.echo(f"  hint: {hint}")
