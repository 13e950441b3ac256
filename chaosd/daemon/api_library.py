"""Endpoints of what there is to choose from, and what this host can do of it."""

from __future__ import annotations

from functools import cache
from typing import Any

from starlette.responses import Response

from chaosd import catalog, scenario
from chaosd.daemon.deeds import library
from chaosd.daemon.endpoint import Call, endpoint
from chaosd.daemon.orders import Order
from chaosd.daemon.refusals import DeniedError
from chaosd.document import near
from chaosd.faults.base import registry


@endpoint("GET", "/v1/capabilities", dict[str, Any])
async def capabilities(call: Call) -> Any:
    """What this host can do, found out by trying in scratch namespaces and cgroups, and what is left over."""
    return await call.daemon.runs.ask("look")


@endpoint("GET", "/v1/faults", dict[str, str])
async def faults(_: Call) -> dict[str, str]:
    """Every fault with a line about it."""
    return {name: catalog.summary(kind) for name, kind in registry().items()}


@endpoint("GET", "/v1/faults/{fault}", dict[str, Any])
async def fault(call: Call) -> dict[str, Any]:
    """A fault: its mechanisms, best first, and its fields with types, defaults and meaning."""
    name, known = call.path["fault"], registry()
    if name not in known:
        raise DeniedError(404, f"unknown fault {name!r}", near(name, known, "chaosd faults list"))
    return catalog.describe(known[name])


@endpoint("GET", "/v1/scenarios", list[dict[str, Any]])
async def scenarios(_: Call) -> list[dict[str, Any]]:
    """The scenarios that come with chaosd: name, category, description, parameters."""
    return all_scenarios()


@cache
def all_scenarios() -> list[dict[str, Any]]:
    """The same; read once."""
    return [catalog.about(scenario.load(name, {})) for name in scenario.library()]


@endpoint("POST", "/v1/scenarios/validate", dict[str, Any], body=Order, may="read")
async def validate(call: Call) -> Any:
    """Check a scenario; what is wrong is told all at once, with lines. The host is not looked at."""
    return await call.daemon.runs.ask("validate", **call.body.prepared(), allow=None)


@endpoint("GET", "/v1/scenarios/{name}", ("application/yaml",))
async def one_scenario(call: Call) -> Response:
    """A scenario that comes with chaosd, as it is written."""
    return Response(library(call.path["name"]).read_text("utf-8"), media_type="application/yaml")
