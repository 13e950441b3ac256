"""The API: what can be asked of the daemon. Nothing is decided here that is decided elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chaosd import __version__, scenario
from chaosd.daemon import orders
from chaosd.daemon.config import Config
from chaosd.daemon.endpoint import DeniedError, Endpoint, Nothing, reply
from chaosd.daemon.orders import Order
from chaosd.daemon.runs import Runs, Story
from chaosd.faults.base import registry
from chaosd.report import fold
from chaosd.report.fold import View

Handler = Callable[[Request, Any], Awaitable[Any]]


class Status(msgspec.Struct, frozen=True):
    """The daemon, and the runs that are live on this host, whoever started them."""

    version: str
    live: list[View]


class Started(msgspec.Struct, frozen=True):
    """A run that has begun."""

    run: str


class Ended(msgspec.Struct, frozen=True):
    """Runs that have been ended, each put back."""

    runs: list[str]


ENDPOINTS: list[Endpoint] = []


def endpoint(method: Any, path: str, **about: Any) -> Callable[[Handler], Handler]:
    """Make a function the handler of an endpoint; its docstring is the summary."""

    def made(handler: Handler) -> Handler:
        about.setdefault("may", "read" if method == "GET" else "act")
        about.setdefault("query", {})
        about.setdefault("body", None)
        summary = (handler.__doc__ or "").partition("\n")[0]
        ENDPOINTS.append(Endpoint(method=method, path=path, summary=summary, handler=handler, **about))
        return handler

    return made


def application(config: Config, runs: Runs) -> Starlette:
    """The API over some runs."""
    by_path: dict[str, list[Endpoint]] = {}
    for each in ENDPOINTS:
        by_path.setdefault(each.path, []).append(each)
    app = Starlette(routes=[Route(path, _of_path(found), methods=_ANY) for path, found in by_path.items()])
    app.state.config, app.state.runs = config, runs
    app.add_exception_handler(404, _unknown)
    return app


_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _of_path(found: list[Endpoint]) -> Any:
    known = {each.method: each for each in found}

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        if method not in known:
            said = reply({"error": f"{request.method} is not for this", "hint": ", ".join(known)}, 405)
            said.headers["allow"] = ", ".join(known)
            return said
        return await known[method](request)

    return answer


async def _unknown(_request: Request, _error: Exception) -> Response:
    return reply({"error": "there is no such thing here", "hint": "see /docs"}, 404)


@endpoint("GET", "/v1/status", answer=Status)
async def status(_request: Request, _: None) -> Status:
    """The daemon, and the runs that are live on this host, whoever started them."""
    from chaosd.journal import live

    return Status(__version__, [fold.of(path) for path in live()])


@endpoint("GET", "/v1/faults", answer=list[str])
async def faults(_request: Request, _: None) -> list[str]:
    """The names of all faults."""
    return list(registry())


@endpoint("GET", "/v1/scenarios", answer=list[dict[str, Any]])
async def scenarios(_request: Request, _: None) -> list[dict[str, Any]]:
    """The scenarios that come with chaosd: name, category, description, parameters."""
    return [_about(scenario.load(name, {})) for name in scenario.library()]


def _about(found: scenario.Scenario) -> dict[str, Any]:
    fields = ("name", "category", "description", "duration", "parameters", "blast_radius")
    about = {field: msgspec.to_builtins(getattr(found, field)) for field in fields}
    return about | {"faults": [step.fault.name for step in found.faults]}


@endpoint("GET", "/v1/scenarios/{name}", answer="application/yaml")
async def one_scenario(request: Request, _: None) -> Response:
    """A scenario that comes with chaosd, as it is written."""
    place = scenario.library().get(request.path_params["name"])
    if place is None:
        raise DeniedError(404, f"no scenario {request.path_params['name']!r}", "see /v1/scenarios")
    return Response(place.read_text("utf-8"), media_type="application/yaml")


@endpoint("POST", "/v1/plans", body=Order, answer=dict[str, Any])
async def make_plan(request: Request, order: Order) -> Any:
    """What a run would do on this host; nothing is touched."""
    answer = await _runs(request).ask("plan", **orders.prepared(order, request.app.state.config))
    return answer["plan"]


@endpoint("POST", "/v1/runs", body=Order, answer=Started)
async def start(request: Request, order: Order) -> Started:
    """Start a run; answers once its journal is begun."""
    story = await _runs(request).start(**orders.prepared(order, request.app.state.config))
    return Started(story.view.run)


@endpoint("GET", "/v1/runs/{run}", answer=View)
async def one_run(request: Request, _: None) -> View:
    """The state of a run, live or finished."""
    return _story(request).view


@endpoint("GET", "/v1/runs/{run}/events", answer="application/x-ndjson")
async def events(request: Request, _: None) -> Response:
    """The records of a live run, those so far and those to come, one JSON document a line."""
    story = _story(request)
    if "text/event-stream" in request.headers.get("accept", ""):
        return StreamingResponse(_framed(story, b"data: ", b"\n\n"), media_type="text/event-stream")
    return StreamingResponse(_framed(story, b"", b"\n"), media_type="application/x-ndjson")


async def _framed(story: Story, before: bytes, after: bytes) -> AsyncIterator[bytes]:
    async for record in story.follow():
        yield before + msgspec.json.encode(record) + after


@endpoint("POST", "/v1/runs/{run}/stop", body=Nothing, answer=Ended)
async def stop(request: Request, _: Nothing) -> Ended:
    """End a run that the daemon started; answers when everything is put back."""
    story = _story(request)
    story.stop()
    async for _record in story.follow(len(story.records)):
        pass
    return Ended([story.view.run])


@endpoint("POST", "/v1/stop", body=Nothing, answer=Ended)
async def stop_all(request: Request, _: Nothing) -> Ended:
    """End every run of the daemon; answers when everything is put back."""
    return Ended(await _runs(request).stop_all())


def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


def _story(request: Request) -> Story:
    name = request.path_params["run"]
    story = _runs(request).live.get(name)
    if story is None:
        raise DeniedError(404, f"no run {name!r} is live here", "see /v1/status")
    return story


@endpoint("GET", "/openapi.json", answer=dict[str, Any])
async def description(_request: Request, _: None) -> dict[str, Any]:
    """This API in OpenAPI 3.1."""
    from chaosd.daemon.openapi import of_all

    return of_all()
