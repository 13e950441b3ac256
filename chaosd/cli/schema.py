"""The JSON schema of scenarios, for editors, made from the classes that read them."""

from __future__ import annotations

import math
import re
from typing import Any, get_type_hints

import msgspec

from chaosd.canary import CanaryFields
from chaosd.checks import base as checks
from chaosd.checks.http import Url
from chaosd.checks.threshold import METRICS, figures
from chaosd.faults.base import Fault
from chaosd.faults.base import registry as faults
from chaosd.scenario import Scenario
from chaosd.shape import SHAPES
from chaosd.step import Timing
from chaosd.units import Duration, Percent, Quantity, Rate, Size

Schema = dict[str, Any]

_REFERENCE = {"$ref": "#/$defs/parameter"}
_FIGURES = "|".join(map(re.escape, [*METRICS, *figures()]))
_DEFINITIONS = {
    "parameter": {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
        "description": "the value of a parameter",
    },
    "threshold": {
        "type": "string",
        "pattern": rf"^\s*([^<>=!]+\.)?({_FIGURES})\s*([<>]=?|[=!]=)\s*[^<>=!]+$",
        "description": "[CHECK.]FIGURE OP LIMIT [for DURATION], such as api.p95 > 800ms for 10s",
    },
}
_UNITS = (Duration, Percent, Rate, Size)


def schema() -> Schema:
    """The schema (JSON Schema 2020-12) of a scenario document with every fault and check there is."""
    own = {name: _field(hint) for name, hint in _hints(Scenario).items() if name not in _BY_HAND}
    own["canary"] = _fields(CanaryFields, {})
    own["parameters"] = {"type": "object", "description": "values with a name, for --set"}
    threshold = {"anyOf": [{"$ref": "#/$defs/threshold"}, _REFERENCE]}
    named = {
        "faults": _list(_one_of(faults(), _timing())) | {"minItems": 1},
        "steady_state": _list(_one_of(checks.registry(), {"name": str})),
        "observe": _list(_one_of(checks.registry(), {"name": str})),
        "abort_when": _list(threshold),
        "expect": _list(threshold),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A chaosd scenario",
        "type": "object",
        "properties": own | named,
        "required": [field.name for field in msgspec.structs.fields(Scenario) if field.required],
        "additionalProperties": False,
        "$defs": _DEFINITIONS | {kind.what: _quantity(kind) for kind in _UNITS},
    }


_BY_HAND = ("faults", "steady_state", "observe", "abort_when", "expect", "parameters", "canary")


def _timing() -> dict[str, Any]:
    hints = _hints(Timing)
    return hints | {"shape": _one_of(SHAPES, {}) | {"description": "its course over time"}}


def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.__struct_fields__}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(kinds: dict[str, Any], more: dict[str, Any]) -> Schema:
    # The name alone, or the name with its fields; one object with all names is what editors complete from.
    alone = [name for name, kind in kinds.items() if not _required(kind)]
    fields = {name: _fields(kind, more) for name, kind in kinds.items()}
    whole = {
        "type": "object",
        "properties": fields,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [*([{"enum": alone}] if alone else []), whole]}


def _fields(kind: type[msgspec.Struct], more: dict[str, Any]) -> Schema:
    found: Schema = {
        "type": "object" if _required(kind) else ["object", "null"],
        "description": (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`"),
        "properties": {name: _field(hint) for name, hint in (_hints(kind) | more).items()},
        "additionalProperties": False,
    }
    if issubclass(kind, Fault):
        found["properties"]["mechanism"] = {"enum": ["", *(way.name for way in kind.mechanisms)]}
    return found | ({"required": needed} if (needed := _required(kind)) else {})


def _required(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def _field(hint: Any) -> Schema:
    if isinstance(hint, dict):  # is a schema already
        return hint
    return _open(msgspec.json.schema(hint, schema_hook=_custom))


def _custom(kind: type) -> Schema:
    if kind in _UNITS:
        return {"$ref": f"#/$defs/{kind.what}"}
    if issubclass(kind, Quantity):
        return _quantity(kind)
    return {"type": "string", "pattern": "^https?://"} if kind is Url else {"type": "string"}


def _quantity(kind: type[Quantity]) -> Schema:
    units = "|".join(filter(None, sorted(kind.factors)))
    bare = "" in kind.factors
    most = {"maximum": kind.limit} if kind.limit < math.inf else {}
    return {
        "description": f"a {kind.what}, such as {kind.example}",
        "anyOf": [
            {"type": "number", "minimum": 0} | most if bare else {"const": 0},
            {"type": "string", "pattern": rf"^\s*(\d+(\.\d+)?\s*({units}){'?' if bare else '|0'})\s*$"},
            _REFERENCE,
        ],
    }


def _open(of: Schema) -> Schema:
    """Let ``${parameter}`` stand for a value and for each part of it; patterns as editors read them."""
    of = _inside(of)
    said = {key: of.pop(key) for key in ("description", "default") if key in of}
    if of == {"type": "string"} or "$ref" in of:
        return said | of
    return said | {"anyOf": [*of.get("anyOf", [of]), _REFERENCE]}


def _inside(of: Schema) -> Schema:
    of = {key: _open(value) if isinstance(value, dict) else value for key, value in of.items()}
    if "pattern" in of:
        of["pattern"] = of["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if "anyOf" in of:
        of["anyOf"] = [_inside(part) for part in of["anyOf"]]
    return of
