"""The documentation of the API as one HTML page, made from its OpenAPI document; it loads nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

_HERE = Path(__file__).parent / "templates"


def page(document: dict[str, Any]) -> str:
    """The page; see ``openapi.document``."""
    return _environment().get_template("docs.html").render(about=document)


@cache
def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters["kind"] = kind
    made.globals["name_of"] = _name
    return made


def kind(schema: dict[str, Any]) -> str:
    """What values of a schema are, in a few words."""
    if "$ref" in schema:
        return _name(schema)
    if "anyOf" in schema:
        return " | ".join(kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"list of {kind(items)}" if items else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
        return f"mapping to {kind(inner)}" if inner else "mapping"
    return str(schema.get("type", "anything"))


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
