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
    from chaosd.faults.base import registry

    rows = {name: _summary(kind) for name, kind in registry().items()}
    table(rows, as_json)


@faults.command("show")
@click.argument("name", shell_complete=complete.fault)
@json_option
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
    _fields(data["fields"])


@click.group(cls=ListByDefault)
def checks() -> None:
    """List what can be measured, or show one check."""


@checks.command("list")
@json_option
def checks_list(as_json: bool) -> None:
    """List every kind of check with a line about it."""
    from chaosd.checks.base import registry

    table({name: _summary(kind) for name, kind in registry().items()}, as_json)


@checks.command("show")
@click.argument("name", shell_complete=complete.check)
@json_option
def checks_show(name: str, as_json: bool) -> None:
    """Show the fields of a check, and the figures that thresholds can be about."""
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


def describe(kind: Any) -> dict[str, Any]:
    """A fault class as data: its words, mechanisms (best first) and fields."""
    import msgspec

    hints = _hints(kind)
    about = {field.name: _field(field, *hints[field.name]) for field in msgspec.structs.fields(kind)}
    ladder = [mechanism.name for mechanism in kind.mechanisms]
    forced = {
        "type": " | ".join(ladder),
        "required": False,
        "default": "the best this host has",
        "description": "use this one or none",
    }
    return {
        "name": kind.name,
        "doc": _words(kind),
        "mechanisms": ladder,
        "needs": {m.name: [need.name for need in m.needs] for m in kind.mechanisms},
        "notes": {m.name: m.note for m in kind.mechanisms if m.note},
        "takes": kind.takes,
        "irreversible": kind.irreversible,
        # its own fields come first, what all faults have comes last
        "fields": {name: about[name] for name in _own_first(kind)} | {"mechanism": forced},
    }


def describe_check(kind: Any) -> dict[str, Any]:
    """A class of checks as data: its words, fields and figures, and what must be installed for it."""
    import msgspec

    from chaosd.checks.threshold import METRICS

    hints = _hints(kind)
    about = {field.name: _field(field, *hints[field.name]) for field in msgspec.structs.fields(kind)}
    label = {"type": "text", "required": False, "default": kind.kind, "description": "what it is called"}
    return {
        "name": kind.kind,
        "doc": _words(kind),
        "needs": list(kind.modules.values()),
        "fields": {name: about[name] for name in _own_first(kind) if name not in _ALL_CHECKS}
        | {"name": label}
        | {name: about[name] for name in _ALL_CHECKS},
        "figures": {
            name: {"meaning": figure.about, "example": figure.unit.example}
            for name, figure in (METRICS | dict(kind.gives)).items()
        },
    }


_ALL_CHECKS = ("within", "rate", "netns")


def _own_first(kind: Any) -> list[str]:
    inherited = [name for name in kind.__struct_fields__ if name not in kind.__annotations__]
    own = [name for name in kind.__struct_fields__ if name in kind.__annotations__]
    return [*own, *(name for name in inherited if name != "mechanism")]


def _field(field: Any, shown: str, meaning: str) -> dict[str, Any]:
    import msgspec

    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    nothing = field.required or default in (None, "", (), [])
    return {
        "type": shown,
        "required": field.required,
        "default": "none" if nothing else str(default).lower() if isinstance(default, bool) else str(default),
        "description": meaning,
    }


def _hints(kind: Any) -> dict[str, tuple[str, str]]:
    from typing import get_type_hints

    import msgspec

    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        found[name] = (_type_name(hint), next((meta.description for meta in metas if meta.description), ""))
    return found


def _type_name(hint: Any) -> str:
    from types import UnionType
    from typing import Annotated, Literal, Union, get_args, get_origin

    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type_name(inside[0])
    if origin is Literal:
        return " | ".join(map(str, inside))
    if origin in (Union, UnionType):
        return " | ".join(_type_name(part) for part in inside if part is not type(None))
    if origin is list:
        return f"list of {_type_name(inside[0])}"
    if origin is dict:
        return "mapping"
    words = {"str": "text", "int": "number", "float": "number", "bool": "true | false"}
    return getattr(hint, "what", "") or words.get(hint.__name__, hint.__name__)


def _fields(fields: dict[str, Any]) -> None:
    width = max(map(len, fields))
    for field, about in fields.items():
        default = "required" if about["required"] else f"default {about['default']}"
        click.echo(f"  {field:{width}}  {about['type']}, {default}")
        if about["description"]:
            click.echo(f"  {'':{width}}  {about['description']}")


def _words(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split()).replace("``", "`")


def _summary(kind: Any) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def table(rows: dict[str, str], as_json: bool) -> None:
    """Print names with a line about each."""
    if as_json:
        print_json(rows)
        return
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        click.echo(f"{name:{width}}  {text}")
