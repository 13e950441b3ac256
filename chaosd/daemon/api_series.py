"""Endpoints of runs that follow each other: suites, schedules, the monkey."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from chaosd.daemon.api_runs import Following
from chaosd.daemon.endpoint import FRAMES, LINES, Call, endpoint
from chaosd.daemon.orders import Nothing, ScheduleOrder, SuiteOrder
from chaosd.daemon.primate import Primate
from chaosd.daemon.refusals import DeniedError
from chaosd.daemon.runs import Child
from chaosd.document import near
from chaosd.errors import ChaosdError


class Suite(msgspec.Struct, frozen=True):
    """A suite that has begun, and what it will run, in this order."""

    suite: str
    name: str
    scenarios: list[str]


@endpoint("POST", "/v1/suites", Suite, body=SuiteOrder)
async def start_suite(call: Call) -> Suite:
    """Run the scenarios of a category or of a suite one after the other; answers once all are checked."""
    order = call.body.prepared() | {"allow": call.daemon.config.allow}
    child, header = await call.daemon.runs.start("suite", f"suite {call.body.category}".strip(), **order)
    return Suite(call.daemon.runs.keep(child), header["name"], header["scenarios"])


@endpoint("GET", "/v1/suites/{suite}/events", (LINES, FRAMES), query=Following)
async def suite_events(call: Call) -> Response:
    """How a suite goes on: what begins, ends and is skipped; at last its exit status."""
    child = _suite(call)
    return call.stream(child.follow() if call.query.follow else child.so_far())


@endpoint("POST", "/v1/suites/{suite}/stop", Nothing, body=Nothing)
async def stop_suite(call: Call) -> Nothing:
    """End a suite and its run; answers when everything is put back."""
    child = _suite(call)
    child.stop()
    await child.until_end()
    return Nothing()


def _suite(call: Call) -> Child:
    name = call.path["suite"]
    child = call.daemon.runs.suites.get(name)
    if child is None:
        raise DeniedError(
            404, f"there is no suite {name!r}", "the last ones that this daemon has begun are kept"
        )
    return child


@endpoint("GET", "/v1/schedules", list[dict[str, Any]])
async def schedules(call: Call) -> list[dict[str, Any]]:
    """Every schedule, when it is due next and when it was last run."""
    return call.daemon.calendar.rows()


@endpoint("GET", "/v1/schedules/{name}", dict[str, Any])
async def one_schedule(call: Call) -> dict[str, Any]:
    """A schedule, when it is due next and when it was last run."""
    name = _known(call)
    return next(row for row in call.daemon.calendar.rows() if row["name"] == name)


@endpoint("POST", "/v1/schedules", dict[str, Any], body=ScheduleOrder)
async def add_schedule(call: Call) -> dict[str, Any]:
    """Write a schedule, which may use no program and no file but what runs of clients may."""
    order = call.body.prepared() | {"allow": call.daemon.config.allow}
    who = call.peer.name if call.peer else "who has a certificate"
    row: dict[str, Any] = await call.daemon.runs.ask("add_schedule", **order, who=who)
    call.daemon.calendar.look()
    return row


@endpoint("POST", "/v1/schedules/{name}/remove", Nothing, body=Nothing)
async def remove_schedule(call: Call) -> Nothing:
    """Delete a schedule that was added here; one that root has written down is for root to delete."""
    by_root = call.peer is not None and call.peer.uid == 0
    call.daemon.calendar.remove(_known(call), by_root=by_root)
    return Nothing()


@endpoint("POST", "/v1/schedules/{name}/pause", dict[str, Any], body=Nothing)
async def pause(call: Call) -> dict[str, Any]:
    """Let a schedule rest; what becomes due meanwhile is not run afterwards."""
    return call.daemon.calendar.pause(_known(call))


@endpoint("POST", "/v1/schedules/{name}/resume", dict[str, Any], body=Nothing)
async def resume(call: Call) -> dict[str, Any]:
    """Let a schedule be due again, from now on."""
    return call.daemon.calendar.resume(_known(call))


def _known(call: Call) -> str:
    name = call.path["name"]
    known = [row["name"] for row in call.daemon.calendar.rows()]
    if name not in known:
        hint = near(name, known) if known else "see /v1/schedules"
        raise DeniedError(404, f"there is no schedule {name!r}", hint)
    return name


@endpoint("POST", "/v1/monkey/pause", dict[str, Any], body=Nothing)
async def pause_monkey(call: Call) -> dict[str, Any]:
    """Let the monkey rest."""
    monkey = _monkey(call)
    monkey.pause()
    return monkey.row()


@endpoint("POST", "/v1/monkey/resume", dict[str, Any], body=Nothing)
async def resume_monkey(call: Call) -> dict[str, Any]:
    """Let the monkey act again."""
    monkey = _monkey(call)
    monkey.resume()
    return monkey.row()


def _monkey(call: Call) -> Primate:
    if call.daemon.monkey is None:
        raise ChaosdError("this daemon has no monkey", hint="name its file as monkey in the configuration")
    return call.daemon.monkey
