"""What there is to choose from, as data: faults with their fields, and scenarios."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from chaosd.checks.threshold import METRICS
from chaosd.scenario import Scenario


def about(found: Scenario) -> dict[str, Any]:
    """A scenario in short: what it is called, does, takes and may reach."""
    fields = ("name", "category", "description", "duration", "parameters", "blast_radius")
    said = {field: msgspec.to_builtins(getattr(found, field), enc_hook=str) for field in fields}
    return said | {"faults": [step.fault.name for step in found.faults]}


def describe(kind: Any) -> dict[str, Any]:
    """A fault class as data: its words, mechanisms (best first) and fields."""
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
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        found[name] = (_type_name(hint), next((meta.description for meta in metas if meta.description), ""))
    return found


def _type_name(hint: Any) -> str:
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


def _words(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split()).replace("``", "`")


def summary(kind: Any) -> str:
    """The first line about a fault or check class."""
    return (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`")
