"""The API's own description, made from its endpoints: OpenAPI 3.1, for people and generators."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from chaosd import __version__
from chaosd.daemon.endpoint import Endpoint, Problem

_REFUSALS = {
    "400": "the request cannot be read",
    "403": "the caller may not do this",
    "404": "there is no such thing",
    "422": "refused: bad input, unsafe, or not possible now",
    "500": "something could not be put back",
    "501": "this host cannot do it",
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The description of these endpoints."""
    found = list(endpoints)
    types = [each.answer for each in found if not isinstance(each.answer, str)]
    bodies = [each.body for each in found if each.body is not None]
    schemas, components = msgspec.json.schema_components(
        [Problem, *types, *bodies], schema_hook=_hook, ref_template="#/components/schemas/{name}"
    )
    known = dict(zip(map(repr, [Problem, *types, *bodies]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chaosd",
            "version": __version__,
            "description": "Fault injection that puts everything back. Runs end, whatever happens to "
            "their clients; what a run did is in its events and its report.",
        },
        "servers": [{"url": "http://localhost", "description": "the Unix socket /run/chaosd/api.sock"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _hook(kind: type) -> dict[str, Any]:
    if issubclass(kind, float):  # quantities: shown as plain numbers, in the units of their class
        return {"type": "number", "description": (kind.__doc__ or "").partition("\n")[0]}
    raise NotImplementedError(kind)


def _operation(each: Endpoint, known: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", each.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": about, "schema": {"type": "string"}}
        for name, about in each.query.items()
    ]
    answer = (
        {each.answer: {"schema": {"type": "string"}}}
        if isinstance(each.answer, str)
        else {"application/json": {"schema": known[repr(each.answer)]}}
    )
    problem = {"application/json": {"schema": known[repr(Problem)]}}
    operation: dict[str, Any] = {
        "summary": each.summary,
        "operationId": f"{each.method.lower()}_{'_'.join(re.findall(r'[a-z]+', each.path)[1:])}",
        "description": f"Asks for the role: {each.may}.",
        "parameters": parameters,
        "responses": {"200": {"description": "done", "content": answer}}
        | {status: {"description": why, "content": problem} for status, why in _REFUSALS.items()},
    }
    if each.body is not None:
        body = {"application/json": {"schema": known[repr(each.body)]}}
        operation["requestBody"] = {"required": True, "content": body}
    return operation


@cache
def of_all() -> dict[str, Any]:
    """The description of the whole API."""
    from chaosd.daemon.api import ENDPOINTS

    return document(ENDPOINTS)
