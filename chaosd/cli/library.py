"""``faults`` and ``checks``: what there is to choose from, and what listings share."""

from __future__ import annotations

from typing import Any

import click

from chaosd.cli import complete
from chaosd.cli.output import print_json


class ListByDefault(click.Group):
    """A group whose ``list`` need not be said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put it in where no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@click.group(cls=ListByDefault)
def faults() -> None:
    """List the faults, or show one."""


@faults.command("list")
@json_option
def faults_list(as_json: bool) -> None:
    """List every fault with a line about it."""
    from chaosd.catalog import summary
    from chaosd.faults.base import registry

    rows = {name: summary(kind) for name, kind in registry().items()}
    table(rows, as_json)


@faults.command("show")
@click.argument("name", shell_complete=complete.fault)
@json_option
def faults_show(name: str, as_json: bool) -> None:
    """Show the fields of a fault, with types, defaults and meaning."""
    from chaosd.catalog import describe
    from chaosd.document import near
    from chaosd.errors import ChaosdError
    from chaosd.faults.base import registry

    known = registry()
    if name not in known:
        raise ChaosdError(f"unknown fault {name!r}", hint=near(name, known, "chaosd faults list"))
    data = describe(known[name])
    if as_json:
        print_json(data)
        return
    click.echo(f"{name}: {data['doc']}\n")
    click.echo(f"mechanisms, best first: {', '.join(data['mechanisms'])}\n")
    _fields(data["fields"])


@click.group(cls=ListByDefault)
def checks() -> None:
    """List what can be measured, or show one check."""


@checks.command("list")
@json_option
def checks_list(as_json: bool) -> None:
    """List every kind of check with a line about it."""
    from chaosd.catalog import summary
    from chaosd.checks.base import registry

    table({name: summary(kind) for name, kind in registry().items()}, as_json)


@checks.command("show")
@click.argument("name", shell_complete=complete.check)
@json_option
def checks_show(name: str, as_json: bool) -> None:
    """Show the fields of a check, and the figures that thresholds can be about."""
    from chaosd.catalog import describe_check
    from chaosd.checks.base import registry
    from chaosd.document import near
    from chaosd.errors import ChaosdError

    known = registry()
    if name not in known:
        raise ChaosdError(f"unknown check {name!r}", hint=near(name, known))
    data = describe_check(known[name])
    if as_json:
        print_json(data)
        return
    click.echo(f"{name}: {data['doc']}\n")
    _fields(data["fields"])
    click.echo("\nfigures for thresholds:\n")
    width = max(map(len, data["figures"]))
    for figure, about in data["figures"].items():
        click.echo(f"  {figure:{width}}  {about['example']:5}  {about['meaning']}")


def _fields(fields: dict[str, Any]) -> None:
    width = max(map(len, fields))
    for field, about in fields.items():
        default = "required" if about["required"] else f"default {about['default']}"
        click.echo(f"  {field:{width}}  {about['type']}, {default}")
        if about["description"]:
            click.echo(f"  {'':{width}}  {about['description']}")


def table(rows: dict[str, str], as_json: bool) -> None:
    """Print names with a line about each."""
    if as_json:
        print_json(rows)
        return
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        click.echo(f"{name:{width}}  {text}")
