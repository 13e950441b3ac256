"""The other process: has its order from standard input, and answers there. For ``own`` to start.

A run goes on until an eventfd that came along says so. The end of standard input does not: who has started
this has died, and the kernel will tell with a signal.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

from chaosd.errors import ChaosdError, to_data
from chaosd.kernel.edit import MARK
from chaosd.scenario import Scenario

_PR_SET_NAME = 15  # linux/prctl.h
_END = 0  # standard input


def main() -> None:
    """Do as the order says."""
    # what is called so is not hit by faults, and no fault can be aimed at it
    ctypes.CDLL(None).prctl(_PR_SET_NAME, MARK.encode(), 0, 0, 0)
    order = json.loads(_line())
    if order["deed"] == "run":
        _run(order)
    try:
        told = {"answer": plan(order) if order["deed"] == "plan" else available(order["fault"])}
    except ChaosdError as error:
        told = {"refused": to_data(error)}
    sys.stdout.write(json.dumps(told))


def _line() -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        part = os.read(_END, 1 << 16)
        if not part:
            sys.exit(0)  # who has started this is dead
        text += part
    return text


def _run(order: dict[str, Any]) -> None:
    from chaosd.orchestrate import apart

    os.set_blocking(_END, False)
    confirmed, until = order["yes_entire_system"], os.dup(order["until"])  # select(2) takes none above 1023
    apart.obey(lambda: scenario(order), _END, order["parent"], confirmed=confirmed, until=until)


def scenario(order: dict[str, Any]) -> Scenario:
    """The scenario that is meant: one fault, a text, or a file or name.

    Raises:
        ChaosdError: what is wrong with it.
    """
    own = order["own"]
    if "fault" in order:
        from chaosd.direct import single

        return single(order["fault"], order["fields"], **{"seed": None, **own})
    from chaosd.scenario import load, parse

    if "text" in order:
        return parse(order["text"], "scenario", order["set"] | own)
    return load(order["scenario"], order["set"] | own)


def plan(order: dict[str, Any]) -> dict[str, Any]:
    """What the run would do."""
    from chaosd import plan as planning

    return planning.describe(planning.make(scenario(order), confirmed=True))


def available(fault: str) -> str | None:
    """Why this host cannot do a fault; None when it can.

    Raises:
        ChaosdError: there is no such fault.
    """
    from chaosd.document import near
    from chaosd.faults.base import find, registry

    kind = find(fault)
    if kind is None:
        raise ChaosdError(f"unknown fault {fault!r}", hint=near(fault, registry(), "chaosd faults list"))
    reasons = {
        mechanism.name: mechanism.out_of_place() or mechanism.missing() for mechanism in kind.mechanisms
    }
    if not all(reasons.values()):
        return None
    return "; ".join(f"by {name}, {', '.join(why)}" for name, why in reasons.items())


if __name__ == "__main__":
    main()
