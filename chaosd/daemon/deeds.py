"""What a child of the zygote can be asked to do; each tells its story in records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaosd import engine, plan, scenario
from chaosd.errors import ChaosdError
from chaosd.scenario import Scenario

Order = dict[str, Any]
Tell = Callable[[dict[str, Any]], None]


def _read(order: Order) -> Scenario:
    return scenario.parse(order["text"], order["name"], order["overrides"])


def _told(deed: Callable[[Order, Tell], int]) -> Callable[[Order, Tell], int]:
    def done(order: Order, tell: Tell) -> int:
        try:
            return deed(order, tell)
        except ChaosdError as error:
            tell({"type": "error", "error": error.message, "hint": error.hint, "exit": int(error.exit)})
            return int(error.exit)

    return done


@_told
def run(order: Order, tell: Tell) -> int:
    """Do a run: every record of its journal, as it is written."""
    return int(engine.execute(_read(order), tell, confirmed=order["confirmed"]))


@_told
def make_plan(order: Order, tell: Tell) -> int:
    """Plan a run: one record with the plan."""
    made = plan.make(_read(order), confirmed=True)
    tell({"type": "plan", "plan": plan.describe(made)})
    return 0


DEEDS = {"run": run, "plan": make_plan}
