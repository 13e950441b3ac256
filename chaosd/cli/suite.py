"""``suite``: many scenarios, one outcome."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli import complete
from chaosd.cli.output import print_json
from chaosd.cli.run import set_option
from chaosd.errors import ChaosdError

if TYPE_CHECKING:
    from chaosd.orchestrate.suite import Outcome, Suite
    from chaosd.report.render import Form, Skipped
    from chaosd.scenario import Scenario

_HELP = """Run the scenarios of a CATEGORY, of all categories, or of a suite FILE, one after the other.

    chaosd suite network --target container:api --report out

    What this host cannot do is skipped, and said. The suite ends early when it is interrupted, with
    --stop-on-failure when a run does not pass, and always when the host was not put back.

    \b
    Exit status, of all runs the worst, in this order:
      10  something could not be put back
      6   interrupted
      1   a steady state did not come back, or something expected did not come true
      3   aborted by a threshold
      2   refused
      4   a fault hit nothing
      0   all that were run have passed
      5   this host can do none of them
    """


@click.command(help=_HELP)
@click.argument("what", metavar="CATEGORY|all|FILE", shell_complete=complete.suite)
@click.option("--target", metavar="T", shell_complete=complete.target,
              help="What to aim all of them at, such as container:api.")  # fmt: skip
@set_option
@click.option("--duration", metavar="D", help="How long each fault lasts, such as 30s; at most 30m.")
@click.option("--seed", type=int, help="Seed of every random choice, the same for each run.")
@click.option("--pause", metavar="D", help="How long to wait between two runs; 5s if not given.")
@click.option("--stop-on-failure/--continue", "stops", default=None,
              help="End the suite when a run does not pass, or go on; go on if not given.")  # fmt: skip
@click.option(
    "--report",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write result.json, report.html, junit.xml and summary.md there.",
)
@click.option("--dry-run", is_flag=True, help="Show what each run would do; touch nothing.")
@click.option("--yes-entire-system", is_flag=True, help="Yes, this may reach the entire system.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def suite(
    what: str,
    target: str | None,
    settings: dict[str, Any],
    duration: str | None,
    seed: int | None,
    pause: str | None,
    stops: bool | None,
    report: str | None,
    dry_run: bool,
    yes_entire_system: bool,
    as_json: bool,
) -> None:
    """See ``_HELP``."""
    from msgspec.structs import replace

    from chaosd.orchestrate import suite as suites
    from chaosd.units import Duration

    chosen = suites.choose(what)
    if pause is not None:
        chosen = replace(chosen, pause=Duration.parse(pause))
    if stops is not None:
        chosen = replace(chosen, on_failure="stop" if stops else "continue")
    length = Duration.parse(duration) if duration is not None else None
    given = {"target": target, "duration": length, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    chosen = suites.settled(chosen, overrides, settings)
    scenarios = suites.scenarios(chosen)
    if dry_run:
        _rehearse(chosen, scenarios, as_json)
        return
    outcome = _run(chosen, scenarios, yes_entire_system, as_json)
    if as_json:
        print_json(_data(chosen, outcome))
    else:
        from chaosd.cli import render

        render.suite(outcome.views, [(each.scenario, each.reason) for each in outcome.skipped])
    sys.exit(_reported(chosen, outcome, report) if report else outcome.status)


def _run(chosen: Suite, scenarios: list[Scenario], confirmed: bool, as_json: bool) -> Outcome:
    from chaosd.cli import through_suite
    from chaosd.orchestrate import suite as suites

    begun = through_suite.begin(chosen, confirmed=confirmed)
    if begun is None and os.geteuid() != 0:
        raise ChaosdError("chaosd changes kernel state and must be root", hint="sudo chaosd ...")
    watcher = suites.Watcher()
    if not as_json:
        from chaosd.cli.live import Live

        watcher = Live(len(scenarios))
    if begun is not None:
        return through_suite.follow(begun, scenarios, watcher)
    from chaosd.orchestrate.waiting import Stop

    with Stop() as stop:
        return suites.run(chosen, scenarios, stop, watcher, confirmed=confirmed)


def _rehearse(chosen: Suite, scenarios: list[Scenario], as_json: bool) -> None:
    from chaosd.cli import render
    from chaosd.report.render import Skipped

    shown = []
    for made in _plans(chosen, scenarios):
        if isinstance(made, Skipped):
            shown.append({"scenario": made.scenario, "cannot": made.reason})
        else:
            shown.append(made)
        if as_json:
            continue
        if isinstance(made, Skipped):
            render.say((made.scenario, "bold"), ("  would not be run: ", "yellow"), made.reason)
        else:
            render.plan(made)
        render.say()
    if as_json:
        print_json({"suite": chosen.name, "plans": shown})


def _plans(chosen: Suite, scenarios: list[Scenario]) -> Iterator[dict[str, Any] | Skipped]:
    from chaosd import client, plan
    from chaosd.cli import through_suite
    from chaosd.orchestrate import suite as suites
    from chaosd.report.render import Skipped

    if client.instead():
        yield from through_suite.rehearse(chosen, scenarios)
        return
    for made in suites.rehearse(scenarios):
        yield made if isinstance(made, Skipped) else plan.describe(made)


def _data(chosen: Suite, outcome: Outcome) -> dict[str, Any]:
    return {
        "suite": chosen.name,
        "exit": int(outcome.status),
        "runs": [view.brief() for view in outcome.views],
        "skipped": outcome.skipped,
    }


def _reported(chosen: Suite, outcome: Outcome, folder: str) -> int:
    from chaosd.cli.output import print_error

    try:
        _write_report(chosen, outcome, folder)
    except ChaosdError as error:
        print_error(error, as_json=False)
        return outcome.status or error.exit  # how the runs ended is what matters most
    return outcome.status


def _write_report(chosen: Suite, outcome: Outcome, folder: str) -> None:
    from pathlib import Path

    import msgspec

    from chaosd.cli.report import write
    from chaosd.report.render import render

    place = Path(folder)
    result = msgspec.json.format(msgspec.json.encode(_data(chosen, outcome)))
    write(place / "result.json", result.decode(), folder=True)
    form: Form
    for form, name in (("html", "report.html"), ("junit", "junit.xml"), ("markdown", "summary.md")):
        write(place / name, render(outcome.views, form, title=chosen.name, skipped=outcome.skipped))
