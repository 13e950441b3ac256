"""Endpoints of runs that follow each other: suites, schedules, the monkey."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from chaosd.daemon.api_runs import Following
from chaosd.daemon.endpoint import FRAMES, LINES, Call, endpoint
from chaosd.daemon.orders import Nothing, SuiteOrder
from chaosd.daemon.primate import Primate
from chaosd.daemon.refusals import DeniedError
from chaosd.daemon.runs import Child
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
    if name not in [row["name"] for row in call.daemon.calendar.rows()]:
        raise DeniedError(404, f"there is no schedule {name!r}", "see /v1/schedules")
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
