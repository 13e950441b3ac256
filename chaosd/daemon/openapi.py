"""The API's own description, made from its endpoints: OpenAPI 3.1, for people and generators."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from chaosd import __version__
from chaosd.daemon.endpoint import ENDPOINTS, PATTERNS, Endpoint, Problem

_REFUSALS = {
    "400": "the request cannot be read",
    "403": "the caller may not do this, or the daemon may not for its configuration",
    "404": "there is no such thing",
    "409": "another run holds this host; the error says which",
    "413": "the request is too large",
    "422": "refused: bad input, unsafe, or not possible now",
    "500": "something could not be put back, or an error in chaosd; the error says what",
    "501": "this host cannot do it",
    "503": "the daemon cannot start anything; restart it",
    "504": "it took too long",
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The description of these endpoints."""
    found = list(endpoints)
    types = [Problem, *(each.answer for each in found if not isinstance(each.answer, tuple))]
    types += [each.body for each in found if each.body is not None]
    schemas, components = msgspec.json.schema_components(
        types, schema_hook=_hook, ref_template="#/components/schemas/{name}"
    )
    known = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, known)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "chaosd",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Fault injection that puts everything back. Runs end, whatever happens to "
            "their clients; what a run did is in its events and its report.",
        },
        "servers": [{"url": "http://localhost", "description": "the Unix socket /run/chaosd/api.sock"}],
        "paths": paths,
        "components": {"schemas": components},
    }
    return dict(msgspec.json.decode(msgspec.json.encode(made)))  # defaults as JSON has them


def _hook(kind: type) -> dict[str, Any]:
    if issubclass(kind, float):  # quantities: shown as plain numbers, in the units of their class
        return {"type": "number", "description": (kind.__doc__ or "").partition("\n")[0]}
    raise NotImplementedError(kind)


def _operation(each: Endpoint, known: dict[str, Any]) -> dict[str, Any]:
    problem = {"application/json": {"schema": known[repr(Problem)]}}
    operation: dict[str, Any] = {
        "summary": each.summary,
        "operationId": each.handler.__name__,
        "description": f"Asks for the role: {each.may}.",
        "parameters": [*_in_path(each), *_in_query(each)],
        "responses": {"200": {"description": "done", "content": _content(each, known)}}
        | {status: {"description": why, "content": problem} for status, why in _REFUSALS.items()},
    }
    if each.body is not None:
        body = {"application/json": {"schema": known[repr(each.body)]}}
        operation["requestBody"] = {"required": False, "content": body}
    return operation


def _in_path(each: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"} | ({"pattern": PATTERNS[name]} if name in PATTERNS else {}),
        }
        for name in re.findall(r"\{(\w+)\}", each.path)
    ]


def _in_query(each: Endpoint) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([each.query])
    (about,) = components.values()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in about.get("required", ()),
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in about["properties"].items()
    ]


def _content(each: Endpoint, known: dict[str, Any]) -> dict[str, Any]:
    if isinstance(each.answer, tuple):
        return {kind: {"schema": {"type": "string"}} for kind in each.answer}
    return {"application/json": {"schema": known[repr(each.answer)]}}


@cache
def of_all() -> dict[str, Any]:
    """The description of the whole API."""
    return document(ENDPOINTS)
