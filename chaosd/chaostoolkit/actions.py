"""Actions for experiments of the Chaos Toolkit."""

from __future__ import annotations

from typing import Any

import chaosd
from chaosd.chaostoolkit import held

__all__ = ["inject_fault", "lift_faults", "run_scenario", "start_scenario"]


def inject_fault(
    fault: str,
    target: str,
    fields: dict[str, Any] | None = None,
    duration: str = "60s",
    seed: int | None = None,
    entire_system: bool = False,
) -> dict[str, Any]:
    """Inject a fault; it lasts until ``lift_faults``, or for its duration, or as long as the experiment.

    Args:
        fault: its name, such as ``network.delay``.
        target: what to aim at, such as ``container:api``.
        fields: of the fault, as ``chaosd faults show`` has them.
        duration: how long it lasts at most, with a unit.
        seed: of every random choice.
        entire_system: yes, this may reach the entire system.

    Returns:
        ``run``, ``phase`` and ``faults``, each with mechanism, edits and effect; the faults are live.
    """
    made = chaosd.inject(
        fault,
        target=target,
        duration=duration,
        seed=seed,
        entire_system=entire_system,
        **(fields or {}),
    )
    return held.begin(made)


def start_scenario(
    scenario: str | dict[str, Any],
    target: str | None = None,
    parameters: dict[str, Any] | None = None,
    duration: str | None = None,
    seed: int | None = None,
    entire_system: bool = False,
) -> dict[str, Any]:
    """Begin a scenario: its steady state must hold; its faults last as those of ``inject_fault``.

    Args:
        scenario: a file, the name of one that comes with chaosd, or one as data.
        target: what to aim at, instead of what it says itself.
        parameters: values for its parameters.
        duration: how long its faults last at most, with a unit.
        seed: of every random choice.
        entire_system: yes, this may reach the entire system.

    Returns:
        As ``inject_fault``.
    """
    made = chaosd.running(
        scenario,
        target=target,
        parameters=parameters,
        duration=duration,
        seed=seed,
        entire_system=entire_system,
    )
    return held.begin(made)


def lift_faults(allow_miss: bool = False) -> dict[str, Any]:
    """Lift what the experiment has begun, put the host back, and tell what was hit.

    It fails when the faults were over before, when one of them hit nothing, or when the steady state
    of a scenario did not come back. Where nothing was begun, or all is lifted, it does nothing; so it
    may stand in the method and among the rollbacks.

    Args:
        allow_miss: a fault that hit nothing is no failure.

    Returns:
        ``run``, ``verdict``, ``reason``, ``matched``, ``injected``, ``evidence``, ``recovered_after``,
        and all of it in words as ``says``; empty when nothing was begun.
    """
    return held.lift(allow_miss=allow_miss)


def run_scenario(
    scenario: str | dict[str, Any],
    target: str | None = None,
    parameters: dict[str, Any] | None = None,
    duration: str | None = None,
    seed: int | None = None,
    allow_miss: bool = False,
    entire_system: bool = False,
) -> dict[str, Any]:
    """Do a scenario from its beginning to its end; it fails when the run does not pass.

    Args:
        scenario: as ``start_scenario`` has it, and so are the others.
        target: see there.
        parameters: see there.
        duration: how long its faults last, with a unit.
        seed: see there.
        allow_miss: a fault that hit nothing is no failure.
        entire_system: see there.

    Returns:
        As ``lift_faults``.
    """
    made = chaosd.run(
        scenario,
        target=target,
        parameters=parameters,
        duration=duration,
        seed=seed,
        entire_system=entire_system,
    )
    return held.told(made, allow_miss=allow_miss)
