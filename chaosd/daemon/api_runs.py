"""Endpoints of runs that go on: start, watch, end, put back."""

from __future__ import annotations

import socket
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from chaosd import __version__
from chaosd.daemon.access import Role, role_of
from chaosd.daemon.endpoint import FRAMES, LINES, Call, endpoint
from chaosd.daemon.orders import Nothing, Order, Revert, Which
from chaosd.daemon.refusals import DeniedError
from chaosd.daemon.runs import Run
from chaosd.errors import NotRestoredError
from chaosd.report.brief import summary
from chaosd.report.fold import View


class You(msgspec.Struct, frozen=True):
    """Who asks, and what they may: ``act`` includes ``read``."""

    name: str
    may: Role


class Status(msgspec.Struct, frozen=True):
    """The daemon, the runs that are live on this host, whoever started them, and what is to come.

    Each run is as its ``View``, without its samples over time, and whether its engine is ``alive``, and its
    ``open_edits``.
    """

    version: str
    host: str
    you: You
    live: list[dict[str, Any]]
    schedules: list[dict[str, Any]]
    monkey: dict[str, Any] | None
    problems: list[str]


class Started(msgspec.Struct, frozen=True):
    """A run that has begun."""

    run: str


class Ended(msgspec.Struct, frozen=True):
    """Runs that have ended, each put back; and those that did not."""

    runs: list[str]
    stuck: list[str] = []


class Reverted(msgspec.Struct, frozen=True):
    """What was put back or removed, and what would not go, and why."""

    done: list[str]
    problems: list[str]


class Following(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a stream is wanted."""

    follow: Annotated[bool, Meta(description="whether to go on; else what is kept so far, and no more")] = (
        True
    )


@endpoint("GET", "/v1/status", Status)
async def status(call: Call) -> Status:
    """The daemon, the runs that are live on this host, whoever started them, and what is to come."""
    daemon = call.daemon
    known = {name: summary(run.view) for name, run in daemon.runs.live.items()}
    strangers = [each for each in await daemon.runs.ask("stand") if each["run"] not in known]
    monkey = daemon.monkey.row() if daemon.monkey else None
    rows = daemon.calendar.rows()
    you = You(call.peer.name if call.peer else "who has a certificate", role_of(call.peer, daemon.config))
    live = [*known.values(), *strangers]
    return Status(__version__, socket.gethostname(), you, live, rows, monkey, daemon.calendar.problems)


@endpoint("POST", "/v1/plans", dict[str, Any], body=Order)
async def make_plan(call: Call) -> Any:
    """What a run would do on this host; nothing is touched."""
    return await call.daemon.runs.ask("make_plan", **call.body.prepared(), allow=call.daemon.config.allow)


@endpoint("POST", "/v1/runs", Started, body=Order)
async def start(call: Call) -> Started:
    """Start a run; answers once its journal is begun."""
    return Started((await _begin(call)).view.run)


@endpoint("POST", "/v1/runs/attended", (LINES, FRAMES), body=Order)
async def attend(call: Call) -> Response:
    """Start a run and tell its records as they come; it is ended when the client goes away."""
    return call.stream((await _begin(call)).attended())


async def _begin(call: Call) -> Run:
    order = call.body.prepared() | {"allow": call.daemon.config.allow}
    child, _ = await call.daemon.runs.start("run", call.body.scenario or "a scenario", **order)
    assert child.run is not None  # it has told its header
    return child.run


@endpoint("GET", "/v1/runs/{run}", View)
async def one_run(call: Call) -> Any:
    """The state of a run, live or finished."""
    run = call.daemon.runs.live.get(call.path["run"])
    return run.view if run else await call.daemon.runs.ask("view", run=call.path["run"])


@endpoint("GET", "/v1/runs/{run}/events", (LINES, FRAMES), query=Following)
async def events(call: Call) -> Response:
    """The records of a run: those so far, and of one that this daemon started those to come."""
    name = call.path["run"]
    run = call.daemon.runs.live.get(name)
    if run is None:
        await call.daemon.runs.ask("view", run=name)  # says so if there is none
        return call.stream(call.daemon.runs.follow("records", run=name))
    return call.stream(run.follow() if call.query.follow else run.so_far())


@endpoint("POST", "/v1/runs/{run}/lift", Started, body=Nothing)
async def lift(call: Call) -> Started:
    """Lift the faults of a run as if their time were over; answers at once, and it goes on to its verdict."""
    name = call.path["run"]
    run = call.daemon.runs.live.get(name)
    if run is None or run.child.deed != "run":
        raise DeniedError(404, f"no live run {name!r} was started by itself here", f"/v1/runs/{name}/stop")
    run.child.lift()
    return Started(name)


@endpoint("POST", "/v1/runs/{run}/stop", Ended, body=Nothing)
async def stop_one(call: Call) -> Ended:
    """End a run, whoever started it; answers when everything is put back."""
    return await _stop(call, call.path["run"])


@endpoint("POST", "/v1/stop", Ended, body=Which)
async def stop(call: Call) -> Ended:
    """End the live run, one of several, or all, suites as well; answers when everything is put back."""
    return await _stop(call, call.body.run, everything=call.body.all)


async def _stop(call: Call, name: str | None, *, everything: bool = False) -> Ended:
    runs = call.daemon.runs
    if name is None or name not in runs.live:
        ours = await runs.stop_all() if everything else []
        told = await runs.ask("stop", run=name, all=everything)
        stuck = [view.run for view in ours if view.verdict == "not-restored"]
        ended = [view.run for view in ours if view.run not in stuck]
        return Ended([*ended, *told["runs"]], [*stuck, *told["stuck"]])
    run = runs.live[name]
    run.child.stop()
    await run.until_end()
    if run.view.verdict == "not-restored":
        raise NotRestoredError(f"run {name} is not put back: {run.view.reason}", hint="chaosd revert --all")
    return Ended([name])


@endpoint("POST", "/v1/revert", Reverted, body=Revert)
async def revert(call: Call) -> Any:
    """Put back what runs changed, live or dead; a live one is ended first, by force if need be."""
    wanted = {"run": call.body.run, "all": call.body.all, "scrub": call.body.scrub}
    return await call.daemon.runs.ask("revert", **wanted)


@endpoint("GET", "/v1/events", (LINES, FRAMES), query=Following)
async def everything(call: Call) -> Response:
    """What happens from now on: records of runs with their ``run``, suites, schedules, the monkey."""
    feed = call.daemon.runs.feed
    return call.stream(feed.follow(feed.count) if call.query.follow else feed.so_far())
