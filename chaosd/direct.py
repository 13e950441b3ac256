"""Scenarios without a document: the faults of ``chaosd inject`` and ``chaosd exec``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from msgspec.structs import replace

from chaosd import document, step
from chaosd.checks.threshold import HOST, defaults
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.faults.base import find, registry
from chaosd.scenario import LONGEST, OnRestart, Radius, Scenario
from chaosd.step import Step
from chaosd.units import Duration


def single(
    fault: str,
    fields: Mapping[str, Any],
    target: str,
    duration: str,
    seed: int | None,
    on_restart: OnRestart = "end",
) -> Scenario:
    """A scenario of one fault, for ``chaosd inject``.

    Raises:
        ChaosdError: what is wrong with it.
    """
    if on_restart not in get_args(OnRestart):
        raise ChaosdError(f"on_restart: {on_restart!r} is neither end nor follow")
    scenario = several([(fault, fields)], fault, duration, seed)
    radius: Radius = "entire-system" if target == "host" else scenario.blast_radius
    return replace(scenario, target=target, blast_radius=radius, on_restart=on_restart)


def several(
    faults: Sequence[tuple[str, Mapping[str, Any]]], name: str, duration: str, seed: int | None
) -> Scenario:
    """A scenario of some faults on one target, which is yet to be named.

    Args:
        faults: their names and fields.
        name: what to call the scenario.
        duration: how long they last, with a unit.
        seed: of every random choice.

    Raises:
        ChaosdError: everything that is wrong, one line each.
    """
    built, wrong = [], []
    for fault, fields in faults:
        try:
            built.append(_alone(fault, fields))
        except ChaosdError as error:
            wrong.append(error)
    problems = Problems(name)
    try:
        length = Duration.parse(duration)
        if not 0 < length <= LONGEST:
            problems.add(("duration",), f"{length} is not allowed", f"more than 0 and at most {LONGEST}")
        problems.raise_any()
    except ChaosdError as error:
        wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ChaosdError("\n".join(map(str, wrong)))
    return Scenario(
        name=name,
        faults=tuple(built),
        duration=length,
        blast_radius="service-cluster",
        abort_when=tuple(threshold for threshold in defaults() if threshold.check == HOST),
        seed=seed,
    )


def _alone(fault: str, fields: Mapping[str, Any]) -> Step:
    if find(fault) is None:
        raise ChaosdError(
            f"unknown fault {fault!r}", hint=document.near(fault, registry(), "chaosd faults list")
        )
    problems = Problems(fault)
    built = step.build(fault, dict(fields), (), problems)
    problems.raise_any()
    assert built is not None
    return built
