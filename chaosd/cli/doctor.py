"""``doctor``: what this host can do, and what is left over on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli.output import print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def doctor(as_json: bool) -> None:
    """Show, for each fault, the mechanism this host would use, or why not and what would mend it.

    Found out by trying in scratch namespaces and cgroups. Also lists leftovers, read only: ours, and
    what looks like other tools'.
    """
    from chaosd.errors import ChaosdError

    if os.geteuid() != 0:
        raise ChaosdError("doctor tries mechanisms out and must be root", hint="sudo chaosd doctor")
    from chaosd.doctor import look

    data = look()
    if as_json:
        print_json(data)
        return
    _print(data)


def _print(data: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(f"kernel {data['kernel']}")
    console.print(_table(data["faults"]))
    _explain(console, data["faults"])
    for whose, title in (("ours", "left over by chaosd"), ("others", "looks like other tools'")):
        for line in data["leftovers"][whose]:
            console.print(f"[yellow]{title}[/]: {line}")
    if data["leftovers"]["ours"]:
        console.print("put it away with: chaosd revert --scrub")
    if data["runs"]:
        console.print("a run is live or waits to be put back; see: chaosd status")
    elif not any(data["leftovers"].values()):
        console.print("no leftovers found")


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("fault", "mechanism", "missing for a better one"):
        table.add_column(column)
    for row in rows:
        shown = f"[green]{row['mechanism']}[/]" if row["mechanism"] else "[red]none[/]"
        table.add_row(row["fault"], shown, ", ".join(_better(row)))
    return table


def _better(row: dict[str, Any]) -> dict[str, str]:
    """What is missing for the mechanisms before the first that works, and why, by name."""
    found: dict[str, str] = {}
    for why in row["missing"].values():
        if not why:
            break
        for line in why:
            name, _, reason = line.partition(": ")
            found[name] = reason
    return found


def _explain(console: Console, rows: list[dict[str, Any]]) -> None:
    reasons = {name: reason for row in rows for name, reason in _better(row).items()}
    for name, reason in sorted(reasons.items()):
        console.print(f"[yellow]{name}[/]: {reason}")
