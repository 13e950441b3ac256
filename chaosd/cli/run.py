"""``run``, ``inject`` and ``plan``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli import complete
from chaosd.cli.output import print_json

if TYPE_CHECKING:
    from chaosd.cli.render import Progress
    from chaosd.journal import Record
    from chaosd.report.fold import View
    from chaosd.scenario import OnRestart, Scenario

_Command = Callable[..., Any]


def _target_option(function: _Command) -> _Command:
    return click.option(
        "--target", metavar="T", shell_complete=complete.target, help="What to aim at, such as container:api."
    )(function)


def _common(function: _Command) -> _Command:
    options = (
        click.option("--duration", metavar="D", help="How long the fault lasts, such as 30s; at most 30m."),
        click.option(
            "--seed", type=int, help="Seed of every random choice; the same seed, the same choices."
        ),
        click.option(
            "--on-restart",
            type=click.Choice(["end", "follow"]),
            help="What becomes of the run when its target ends: it ends as well, which is what "
            "happens if neither this nor the scenario says more, or goes on when that is back.",
        ),
        click.option("--yes-entire-system", is_flag=True, help="Yes, this may reach the entire system."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _setting(_ctx: click.Context, _param: click.Parameter, words: tuple[str, ...]) -> dict[str, Any]:
    from chaosd.cli.value import value

    for word in words:
        if "=" not in word:
            raise click.BadParameter(f"{word!r} is not KEY=VALUE")
    return {key: value(text) for key, _, text in (word.partition("=") for word in words)}


set_option = click.option(
    "--set", "settings", multiple=True, callback=_setting, metavar="KEY=VALUE", help="Set a parameter."
)


@click.command()
@click.argument("scenario", shell_complete=complete.scenario)
@_target_option
@set_option
@_common
@click.option("--dry-run", is_flag=True, help="Stop after the plan; touch nothing.")
@click.option(
    "--report",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Also write result.json, report.html, junit.xml and summary.md there.",
)
def run(
    scenario: str,
    target: str | None,
    settings: dict[str, Any],
    duration: str | None,
    seed: int | None,
    on_restart: OnRestart | None,
    yes_entire_system: bool,
    as_json: bool,
    dry_run: bool,
    report: str | None,
) -> None:
    """Run SCENARIO, a file or the name of one that comes with chaosd.

    Checks that the steady state holds, injects the faults, watches, puts everything back, and
    checks that the steady state returns.
    """
    own = _given(target=target, duration=duration, seed=seed, on_restart=on_restart)

    def load() -> Scenario:
        from chaosd.scenario import load

        return load(scenario, settings | own)

    from chaosd import client

    order = client.named(scenario) | {"set": settings, **own, "yes_entire_system": yes_entire_system}
    if dry_run:
        _show_plan(load, order, as_json)
        return
    sys.exit(_execute(load, order, as_json, report))


@click.command()
@click.argument("fault", shell_complete=complete.fault)
@click.argument(
    "fields", nargs=-1, callback=_setting, shell_complete=complete.field, metavar="[KEY=VALUE]..."
)
@_target_option
@_common
@click.option("--dry-run", is_flag=True, help="Stop after the plan; touch nothing.")
def inject(
    fault: str,
    fields: dict[str, Any],
    target: str | None,
    duration: str | None,
    seed: int | None,
    on_restart: OnRestart | None,
    yes_entire_system: bool,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Inject one FAULT, with no scenario.

    chaosd inject network.delay delay=100ms --target pid:42 --duration 10s
    """
    for name, value in (("--target", target), ("--duration", duration)):
        if value is None:
            raise click.UsageError(f"{name} is missing")
    assert target is not None
    assert duration is not None

    def load() -> Scenario:
        from chaosd.direct import single

        return single(fault, fields, target, duration, seed, on_restart or "end")

    from chaosd import client

    given = _given(duration=duration, seed=seed, on_restart=on_restart)
    told = client.single(fault, fields, target, **given)
    order = told | {"yes_entire_system": yes_entire_system}
    if dry_run:
        _show_plan(load, order, as_json)
        return
    sys.exit(_execute(load, order, as_json, report=None))


@click.command()
@click.argument("scenario", shell_complete=complete.scenario)
@_target_option
@set_option
@_common
def plan(
    scenario: str,
    target: str | None,
    settings: dict[str, Any],
    duration: str | None,
    seed: int | None,
    on_restart: OnRestart | None,
    yes_entire_system: bool,
    as_json: bool,
) -> None:
    """Show what SCENARIO would do on this host: mechanisms, edits, effect. Nothing is touched."""
    own = _given(target=target, duration=duration, seed=seed, on_restart=on_restart)

    def load() -> Scenario:
        from chaosd.scenario import load

        return load(scenario, settings | own)

    from chaosd import client

    _show_plan(load, client.named(scenario) | {"set": settings, **own}, as_json)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _show_plan(load: Callable[[], Scenario], order: dict[str, Any], as_json: bool) -> None:
    from chaosd import client

    if client.instead():
        data = client.ask("POST", "/v1/plans", order)
    else:
        from chaosd import plan as planning

        data = planning.describe(planning.make(load(), confirmed=True))
    if as_json:
        print_json(data)
        return
    from chaosd.cli import render

    render.plan(data)


def _execute(load: Callable[[], Scenario], order: dict[str, Any], as_json: bool, report: str | None) -> int:
    from chaosd.cli import through

    run = through.begin(order, load)  # before anything is imported that showing it takes
    from chaosd.report.fold import View

    view = View()
    shown: list[Progress] = []

    def show(record: Record) -> None:
        view.add(record)
        # Rich is imported late: a fault without checks before it is live by then.
        if not as_json and (
            shown or view.phase == "fault" or (view.phase == "baseline" and view.plan["steady_state"])
        ):
            from chaosd.cli.render import Progress

            shown[:] = shown or [Progress(view)]
            shown[0].refresh()

    try:
        status = through.follow(run, show) if run else _alone(load(), order, show)
    finally:
        for progress in shown:
            progress.close()
    if as_json:
        print_json(view.brief())
    else:
        from chaosd.cli import render

        render.result(view)
    return _reported(view, report, status) if report else status


def _alone(scenario: Scenario, order: dict[str, Any], show: Callable[[Record], None]) -> int:
    from chaosd.engine import execute

    return int(execute(scenario, show, confirmed=order["yes_entire_system"]))


def _reported(view: View, folder: str, status: int) -> int:
    from chaosd.cli.output import print_error
    from chaosd.errors import ChaosdError

    try:
        _write_report(view, folder)
    except ChaosdError as error:
        print_error(error, as_json=False)
        return status or int(error.exit)  # how the run ended is what matters most
    return status


def _write_report(view: View, folder: str) -> None:
    from pathlib import Path

    import msgspec

    from chaosd.cli.report import write
    from chaosd.report.render import render

    place = Path(folder)
    write(place / "result.json", msgspec.json.format(msgspec.json.encode(view.brief())).decode(), folder=True)
    write(place / "report.html", render([view], "html"))
    write(place / "junit.xml", render([view], "junit"))
    write(place / "summary.md", render([view], "markdown"))
