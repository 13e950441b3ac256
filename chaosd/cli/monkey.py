"""``monkey``: random faults in working hours."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from chaosd import client
from chaosd.cli.output import print_json
from chaosd.errors import ChaosdError

if TYPE_CHECKING:
    from chaosd.orchestrate.monkey import Config, Decision
    from chaosd.report.fold import View

_OF_DAEMON = ("status", "pause", "resume")


@click.command()
@click.argument("config", metavar="CONFIG.yaml|status|pause|resume")
@click.option("--once", is_flag=True, help="Deal with the tick of this moment, and end.")
@click.option("--dry-run", is_flag=True, help="Show what the next ticks would bring; touch nothing.")
@click.option("--ticks", type=click.IntRange(1, 10_000), default=24, help="How many ticks --dry-run shows.")
@click.option("--seed", type=int, help="Seed of every choice; the same seed, the same choices.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print lines of JSON, one for each decision and each run."
)
def monkey(config: str, once: bool, dry_run: bool, ticks: int, seed: int | None, as_json: bool) -> None:
    """Now and then, in the hours of CONFIG.yaml, run one of its scenarios on something eligible.

    One tick after the other is dealt with until a signal comes. Each run is an ordinary one: watched,
    ended by its thresholds, put back. The exit status is 0, that of a run which the signal has
    ended, or 10 if something could not be put back; with --once it is that of the run.

    `chaosd monkey status`, `pause` and `resume` are for the monkey of the daemon, where that has one.
    """
    if config in _OF_DAEMON:
        _ask_daemon(config, as_json)
        return
    from pathlib import Path

    from msgspec.structs import replace

    from chaosd.orchestrate import monkey as choices

    loaded = choices.load(Path(config))
    if seed is not None:
        loaded = replace(loaded, seed=seed)
    if os.geteuid() != 0:
        raise ChaosdError("chaosd looks into every process and must be root", hint="sudo chaosd ...")
    name = Path(config).stem
    if dry_run:
        _rehearse(loaded, name, ticks, as_json)
        return
    sys.exit(_run(loaded, name, once, as_json))


def _run(config: Config, name: str, once: bool, as_json: bool) -> int:
    from chaosd.orchestrate import state
    from chaosd.orchestrate.monkeying import Monkey, row
    from chaosd.orchestrate.waiting import Stop

    def tell(decision: Decision, view: View | None) -> None:
        if as_json:
            _print_line(row(config, decision) | ({"run": view.brief()} if view is not None else {}))
        else:
            click.echo(_line(config, decision, view))

    _look_beside(name)
    held = state.hold(f"monkey-{name}")
    try:
        monkey = Monkey(config, name, tell)
        with Stop() as stop:
            return int(monkey.step(config.tick(time.time()), stop) if once else monkey.run(stop))
    finally:
        os.close(held)


def _ask_daemon(word: str, as_json: bool) -> None:
    from chaosd.cli.host import monkey_lines

    if not client.wanted():
        raise ChaosdError("no daemon serves here", hint="a monkey started by hand ends with Ctrl-C")
    if word == "status":
        row = client.ask("GET", "/v1/status")["monkey"]
        if row is None:
            raise ChaosdError(
                "this daemon has no monkey", hint="name its file as monkey in the configuration"
            )
    else:
        row = client.ask("POST", f"/v1/monkey/{word}", {})
    if as_json:
        print_json(row)
        return
    for line in monkey_lines(row):
        click.echo(line)


def _look_beside(name: str) -> None:
    """Two monkeys of one name would share what they remember; two of different names act side by side."""
    if not client.wanted():
        return
    row = client.ask("GET", "/v1/status")["monkey"]
    if row is None:
        return
    if row["name"] == name:
        raise ChaosdError(f"the daemon's monkey goes by {name} already", hint="chaosd monkey status")
    click.echo(f"chaosd: the daemon has a monkey as well: {row['name']}; see chaosd monkey status", err=True)


def _rehearse(config: Config, name: str, ticks: int, as_json: bool) -> None:
    from chaosd.orchestrate.monkeying import Monkey, row

    monkey = Monkey(config, name, lambda *_: None)
    decisions = monkey.rehearse(config.tick(time.time()) + 1, ticks)
    if as_json:
        print_json({"seed": monkey.memory.seed, "ticks": [row(config, each) for each in decisions]})
        return
    for decision in decisions:
        click.echo(_line(config, decision, None))
    click.echo(f"nothing was touched; seed {monkey.memory.seed}")


def _line(config: Config, decision: Decision, view: View | None) -> str:
    when = f"{config.timezone.local(decision.at):%a %Y-%m-%d %H:%M:%S %Z}"
    if decision.entry is None:
        return f"{when}  nothing: {decision.why}"
    said = f"{when}  {decision.entry.scenario} on {decision.target}"
    if view is None:
        return said
    return f"{said}: run {view.run or '-'} {view.verdict}" + (f": {view.reason}" if view.reason else "")


def _print_line(data: dict[str, Any]) -> None:
    import msgspec

    click.echo(msgspec.json.encode(data).decode())
