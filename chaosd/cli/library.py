"""``faults`` and ``scenarios``: what there is to choose from."""

from __future__ import annotations

from typing import Any

import click

from chaosd.cli import complete
from chaosd.cli.output import print_json


class _ListByDefault(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@click.group(cls=_ListByDefault)
def faults() -> None:
    """List the faults, or show one."""


@faults.command("list")
@_json
def faults_list(as_json: bool) -> None:
    """List every fault with a line about it."""
    from chaosd.faults.base import registry

    rows = {name: _summary(kind) for name, kind in registry().items()}
    _table(rows, as_json)


@faults.command("show")
@click.argument("name", shell_complete=complete.fault)
@_json
def faults_show(name: str, as_json: bool) -> None:
    """Show the fields of a fault, with types, defaults and meaning."""
    from chaosd.document import near
    from chaosd.errors import ChaosdError
    from chaosd.faults.base import registry

    known = registry()
    if name not in known:
        raise ChaosdError(f"unknown fault {name!r}", hint=near(name, known))
    data = describe(known[name])
    if as_json:
        print_json(data)
        return
    click.echo(f"{name}: {data['doc']}\n")
    click.echo(f"mechanisms, best first: {', '.join(data['mechanisms'])}\n")
    width = max(len(field) for field in data["fields"])
    for field, about in data["fields"].items():
        default = "required" if about["required"] else f"default {about['default']}"
        click.echo(f"  {field:{width}}  {about['type']}, {default}")
        if about["description"]:
            click.echo(f"  {'':{width}}  {about['description']}")


@click.group(cls=_ListByDefault)
def scenarios() -> None:
    """List, show or validate scenarios."""


@scenarios.command("list")
@_json
def scenarios_list(as_json: bool) -> None:
    """List the scenarios that come with chaosd."""
    from chaosd.scenario import library, load

    rows = {name: load(name, {}).description for name in library()}
    _table(rows, as_json)


@scenarios.command("show")
@click.argument("name", shell_complete=complete.scenario)
@_json
def scenarios_show(name: str, as_json: bool) -> None:
    """Print the YAML of a scenario."""
    from chaosd.document import load
    from chaosd.scenario import find

    path = find(name)
    text = path.read_text("utf-8")
    if as_json:
        print_json(load(text, str(path))[0])
    else:
        click.echo(text, nl=False)


@scenarios.command("validate")
@click.argument("file", shell_complete=complete.scenario)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a parameter.")
@_json
def scenarios_validate(file: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Check a scenario file: every mistake at once, with its line; exit status 2 if there is any."""
    from chaosd.document import scalar
    from chaosd.scenario import load

    overrides = {key: scalar(value) for key, _, value in (word.partition("=") for word in settings)}
    scenario = load(file, overrides)
    data: dict[str, Any] = {
        "name": scenario.name,
        "faults": [step.fault.name for step in scenario.faults],
        "valid": True,
    }
    if as_json:
        print_json(data)
    else:
        click.echo(f"{file}: valid ({', '.join(data['faults'])})")


def describe(kind: Any) -> dict[str, Any]:
    """A fault class as data: its words, mechanisms and fields."""
    import msgspec

    fields: dict[str, dict[str, Any]] = {}
    hints = _hints(kind)
    for field in msgspec.structs.fields(kind):
        type_name, meaning = hints[field.name]
        default = None if field.required else field.default
        fields[field.name] = {
            "type": type_name,
            "required": field.required,
            "default": "none" if default in (None, "", ()) else str(default),
            "description": meaning,
        }
    return {
        "name": kind.name,
        "doc": " ".join((kind.__doc__ or "").split()),
        "mechanisms": [mechanism.name for mechanism in kind.mechanisms],
        "irreversible": kind.irreversible,
        "fields": fields,
    }


def _hints(kind: Any) -> dict[str, tuple[str, str]]:
    from typing import get_args, get_type_hints

    import msgspec

    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        plain = get_args(hint)[0] if metas else hint
        shown = plain.__name__.lower() if isinstance(plain, type) else str(plain).replace("chaosd.units.", "")
        found[name] = (shown, (metas[0].description or "") if metas else "")
    return found


def _summary(kind: Any) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _table(rows: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        click.echo(f"{name:{width}}  {text}")
