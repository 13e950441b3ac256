"""Endpoints of runs that were: the history, reports, comparisons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from chaosd.daemon.endpoint import Call, endpoint

_TYPES = {
    "html": "text/html",
    "json": "application/json",
    "junit": "application/xml",
    "markdown": "text/markdown",
    "text": "text/plain",
}
_REPORTS = tuple(kind for form, kind in _TYPES.items() if form != "text")
_COMPARISONS = tuple(_TYPES[form] for form in ("html", "json", "text"))
_Run = Annotated[str, Meta(pattern="^[0-9a-f]{6}$", description="the id of a run")]


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the history."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="at most so many runs")] = 20
    scenario: Annotated[str | None, Meta(description="only runs of this scenario")] = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a report is wanted."""

    format: Literal["html", "json", "junit", "markdown"] = "html"


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With which run, and in which form."""

    against: _Run
    format: Literal["html", "json", "text"] = "html"


@endpoint("GET", "/v1/history", list[dict[str, Any]], query=Listing)
async def history(call: Call) -> Any:
    """The runs of this host, the newest first, with verdict and score."""
    return await call.daemon.runs.ask("history", limit=call.query.limit, scenario=call.query.scenario)


@endpoint("GET", "/v1/runs/{run}/report", _REPORTS, query=Report)
async def report(call: Call) -> Response:
    """The report of a run, live or finished."""
    form = call.query.format
    text = await call.daemon.runs.ask("report", run=call.path["run"], form=form)
    return _document(text, _TYPES[form])


@endpoint("GET", "/v1/runs/{run}/compare", _COMPARISONS, query=Comparison)
async def compare(call: Call) -> Response:
    """A run against another one."""
    form = call.query.format
    order = {"run": call.path["run"], "against": call.query.against, "form": form}
    return _document(await call.daemon.runs.ask("compared", **order), _TYPES[form])


def _document(text: str, kind: str) -> Response:
    # a page of its own: whatever got into it cannot speak to the API as the one who looks at it
    return Response(text, headers={"content-security-policy": "sandbox allow-scripts"}, media_type=kind)
