"""What clients of the API may send, and how it becomes an order for the zygote."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chaosd import scenario
from chaosd.daemon.config import Config
from chaosd.errors import ChaosdError
from chaosd.scenario import Scenario


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scenario with its settings: ``scenario`` names one that comes with chaosd, or ``text`` is one."""

    scenario: Annotated[str, Meta(description="name of a scenario that comes with chaosd")] = ""
    text: Annotated[str, Meta(description="a scenario in YAML, instead")] = ""
    target: Annotated[str | None, Meta(description="what to aim at, such as container:api")] = None
    duration: Annotated[str | None, Meta(description="how long the faults last, such as 30s")] = None
    seed: Annotated[int | None, Meta(description="of every random choice")] = None
    set: Annotated[dict[str, Any], Meta(description="values of the scenario's parameters")] = {}
    yes_entire_system: Annotated[bool, Meta(description="this may reach the entire system")] = False


def prepared(order: Order, config: Config) -> dict[str, Any]:
    """The order for the zygote, once everything in it that can be checked here is.

    Raises:
        ChaosdError: no such scenario, or what is wrong in it; or it would run a program that the
            configuration does not allow.
    """
    if bool(order.scenario) == bool(order.text):
        raise ChaosdError("give either scenario or text", hint="such as scenario: network-latency")
    text, name = order.text, "scenario"
    if order.scenario:
        known = scenario.library()
        if order.scenario not in known:
            scenario.find(order.scenario.replace("/", " "))  # says what is near
        text, name = known[order.scenario].read_text("utf-8"), order.scenario
    own = {"target": order.target, "duration": order.duration, "seed": order.seed}
    overrides = order.set | {key: value for key, value in own.items() if value is not None}
    _permit(scenario.parse(text, name, overrides), config)
    return {"text": text, "name": name, "overrides": overrides, "confirmed": order.yes_entire_system}


def _permit(parsed: Scenario, config: Config) -> None:
    checks = (parsed.steady_state | parsed.observe).values()
    for program in (*(c.executes for c in checks), *(step.fault.executes for step in parsed.faults)):
        if program and program not in config.allow:
            raise ChaosdError(
                f"the daemon runs no {program}",
                hint="add it to allow in its configuration, or stop the daemon",
            )
