"""What a run would do, worked out without touching anything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import msgspec
from msgspec.structs import replace

from chaosd.checks.base import Check
from chaosd.checks.ready import demand
from chaosd.document import defaults
from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.faults.base import Fault, Planning
from chaosd.kernel.edit import Edit, Evidence
from chaosd.kernel.netns import NetnsRef
from chaosd.scenario import Radius, Scenario
from chaosd.shape import Constant, Shape
from chaosd.step import Step
from chaosd.targets.model import Target
from chaosd.targets.network import namespace
from chaosd.targets.processes import one_look
from chaosd.targets.protect import operator_addresses, protect, radius
from chaosd.targets.resolve import resolve_all

_RADII: tuple[Radius, ...] = ("single-request", "single-service", "service-cluster", "entire-system")
_MOST = 64  # what the number of a fault is kept below, in names and maps: see Planning


class PlannedFault(msgspec.Struct, frozen=True):
    """One fault on one target: by which mechanism, through which edits, to what effect, and when.

    ``at`` is what it was planned with. ``start`` and ``end`` are seconds since the first fault of the
    run may begin.
    """

    fault: Fault
    target: Target
    at: Planning
    edits: tuple[Edit, ...]
    effect: tuple[str, ...]
    start: float
    end: float
    shape: Shape

    def level(self, at: float) -> float | None:
        """How strong it is to be at a moment, 0 to 1; None before its start and after its end."""
        if not self.start <= at < self.end:
            return None
        return self.shape.strength(at - self.start, self.end - self.start, self.at.seed)


class Plan(msgspec.Struct, frozen=True):
    """Everything a run will do; ``edits`` is in the order in which they are applied, each once.

    ``places`` holds the network namespace of every check that names one.
    """

    run: str
    seed: int
    scenario: Scenario
    faults: tuple[PlannedFault, ...]
    radius: Radius
    places: dict[str, NetnsRef]

    @property
    def checks(self) -> dict[str, Check]:
        """Every check that is sampled, by name."""
        return self.scenario.checks

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit once: two faults that need the very same one share it."""
        return tuple(dict.fromkeys(edit for planned in self.faults for edit in planned.edits))


def add_up(parts: list[Evidence]) -> Evidence:
    """One count for a fault from the counts of its edits; the first one says what is counted."""
    skipped: Counter[str] = Counter()
    processes: Counter[int] = Counter()
    for part in parts:
        skipped.update(part.skipped)
        processes.update(part.processes)
    matched, injected = (sum(getattr(part, name) for part in parts) for name in ("matched", "injected"))
    return Evidence(matched, injected, dict(skipped), parts[0].unit, dict(processes))


def make(scenario: Scenario, *, run: str = "000000", confirmed: bool = False) -> Plan:
    """Resolve the targets and plan every fault; reads, never writes.

    Args:
        scenario: what was asked for.
        run: six hexadecimal digits that go into the names of what the plan makes.
        confirmed: the user has said yes to a radius of the entire system.

    Raises:
        ChaosdError: no such target, a protected one, a plan wider than the scenario declares, or
            two faults that need the same piece of kernel state.
        UnsupportedError: this host cannot do one of the faults, or measure what is to be watched.
    """
    demand(scenario.checks, scenario.thresholds)
    seed = scenario.seed if scenario.seed is not None else int.from_bytes(os.urandom(4))
    with one_look():
        aimed = [(step, target) for step in scenario.faults for target in _targets(step, scenario)]
        if len(aimed) > _MOST:
            said = f"this plan has {len(aimed)} faults, counted for each target"
            raise ChaosdError(f"{said}; {_MOST} are possible", hint="choose fewer targets")
        operator = _operator(target for _, target in aimed)
        planned = [
            _planned(step, target, scenario, Planning(run, index, seed + index, "", 0.0, operator))
            for index, (step, target) in enumerate(aimed)
        ]
        return _made(scenario, run, seed, planned, confirmed=confirmed)


def anew(planned: PlannedFault, target: Target, scenario: Scenario) -> PlannedFault:
    """The same fault on what its target has become; reads, never writes.

    Raises:
        ChaosdError: it is protected now, reaches farther than declared, or cannot take the fault.
    """
    protect(target)
    at = replace(planned.at, operator=_operator([target]))
    found = replace(planned, target=target, at=at, edits=tuple(planned.fault.plan(target, at)))
    _check_reach(_radius(found), scenario)
    return found


def _operator(targets: Iterable[Target]) -> tuple[str, ...]:
    # sockets of a target that is less than all traffic are none of the operator's
    return operator_addresses() if any(target.all_traffic for target in targets) else ()


def _made(scenario: Scenario, run: str, seed: int, planned: list[PlannedFault], *, confirmed: bool) -> Plan:
    several = len(planned) > len(scenario.faults)  # a word that stands for more than one
    reached: list[Radius] = ["service-cluster"] if several else []
    widest = max((*reached, *map(_radius, planned)), key=_RADII.index)
    places = _places(scenario, planned[0].target)
    plan = Plan(run, seed, scenario, tuple(planned), widest, places)
    _check_canary(plan)
    _check_slots(plan)
    _check_radius(plan, confirmed=confirmed)
    return plan


def _planned(step: Step, target: Target, scenario: Scenario, at: Planning) -> PlannedFault:
    start, end = float(step.start), float(step.start + step.lasts if step.lasts else scenario.duration)
    fault, shape = step.fault, step.shape or step.fault.shape or Constant()
    at = replace(at, mechanism=fault.choose().name, duration=end - start)
    try:
        edits = tuple(fault.plan(target, at))
    except PermissionError as error:
        said = f"{fault.name} on {target.spec} is closed to us: {error.strerror}"
        raise UnsupportedError(
            said, hint="in a container: see docs/containers.md for its capabilities"
        ) from None
    effect = tuple(fault.effect(target, at))
    planned = PlannedFault(fault, target, at, edits, effect, start, end, shape)
    _check_course(planned, scenario)
    return planned


def _check_course(planned: PlannedFault, scenario: Scenario) -> None:
    name, by, controls = planned.fault.name, planned.at.mechanism, {edit.control for edit in planned.edits}
    if planned.fault.irreversible and not isinstance(planned.shape, Constant):
        raise ChaosdError(f"{name} cannot be undone, so it cannot come and go", hint="leave its shape out")
    if planned.shape.gradual and "dial" not in controls:
        said = f"{name} by {by} is there or not, never half"
        raise ChaosdError(f"{said}: it cannot take the shape {planned.shape.name}", hint="pulse or random")
    if scenario.canary and scenario.canary.of == "targets":
        if planned.fault.irreversible:
            raise ChaosdError(
                f"{name} cannot be undone, so a canary run could not shrink", hint="leave it out"
            )
    elif scenario.canary and not any(edit.thins for edit in planned.edits):
        said = f"{name} by {by} cannot be kept to a share of what it meets"
        raise ChaosdError(f"{said}, so there is no canary run of it", hint="several targets, and of: targets")
    if scenario.on_restart == "follow" and getattr(planned.fault, "budget", 0) > 0:
        said = f"{name} has a budget, which is not kept beyond a restart of {planned.target.spec}"
        raise ChaosdError(said, hint="leave out budget, or on_restart: follow")


def _targets(step: Step, scenario: Scenario) -> list[Target]:
    word = step.target or scenario.target
    if not word:
        raise ChaosdError(f"{step.fault.name} has no target", hint="give --target, such as --target pid:1234")
    found = resolve_all(word)
    for target in found:
        protect(target)
    return found


def _places(scenario: Scenario, target: Target) -> dict[str, NetnsRef]:
    found = {}
    for name, check in (scenario.steady_state | scenario.observe).items():
        if check.netns == "target":
            if target.netns is None:
                raise ChaosdError(f"check {name}: {target.spec} is in no network namespace of its own")
            found[name] = target.netns
        elif check.netns:
            found[name] = namespace(check.netns)
    return found


def _radius(planned: PlannedFault) -> Radius:
    if getattr(planned.fault, "budget", 0) == 1:
        return "single-request"
    return radius(planned.target)


def _check_canary(plan: Plan) -> None:
    canary, specs = plan.scenario.canary, {planned.target.spec for planned in plan.faults}
    if canary and canary.of == "targets" and len(specs) == 1:
        raise ChaosdError(f"{specs.pop()} is one target, of which there are no shares", hint="name several")


def _check_slots(plan: Plan) -> None:
    for one, other in combinations(plan.faults, 2):
        if one.end <= other.start or other.end <= one.start:
            continue
        theirs = {edit.slot: edit for edit in other.edits}
        for edit in one.edits:
            if theirs.get(edit.slot, edit) != edit:
                raise ChaosdError(
                    f"two faults of this scenario need {edit.slot} at the same time",
                    hint="give them different targets, or start and lasts",
                )


def _check_radius(plan: Plan, *, confirmed: bool) -> None:
    _check_reach(plan.radius, plan.scenario)
    if plan.radius == "entire-system" and not confirmed:
        raise ChaosdError(
            "this plan reaches the entire system", hint="say --yes-entire-system if you mean it"
        )


def _check_reach(reached: Radius, scenario: Scenario) -> None:
    declared = scenario.blast_radius
    if _RADII.index(reached) > _RADII.index(declared):
        raise ChaosdError(
            f"the plan reaches {reached}, but the scenario declares blast_radius: {declared}",
            hint="choose a narrower target, or declare the wider radius",
        )


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, for ``--json``, the journal and the printed form."""
    return {
        "run": plan.run,
        "seed": plan.seed,
        "scenario": plan.scenario.name,
        "category": plan.scenario.category,
        "description": plan.scenario.description,
        "parameters": plan.scenario.parameters,
        "recover_within": float(plan.scenario.recover_within),
        "duration": float(plan.scenario.duration),
        "radius": plan.radius,
        "on_restart": plan.scenario.on_restart,
        "faults": [
            {
                "fault": p.fault.name,
                "fields": _fields(p.fault),
                "target": p.target.spec,
                "word": p.target.word,
                "mechanism": p.at.mechanism,
                "irreversible": p.fault.irreversible,
                "edits": [edit.describe() for edit in p.edits],
                "effect": list(p.effect),
                "start": p.start,
                "end": p.end,
                "shape": str(p.shape),
            }
            for p in plan.faults
        ],
        "steady_state": {name: check.describe() for name, check in plan.scenario.steady_state.items()},
        "abort_when": [str(threshold) for threshold in plan.scenario.abort_when],
        "expect": [str(threshold) for threshold in plan.scenario.expect],
    }


def _fields(fault: Fault) -> dict[str, str]:
    """What was chosen for a fault, as a user would write it; what is as always is left out."""
    chosen = {}
    for name, default in defaults(type(fault)).items():
        if (value := getattr(fault, name)) != default:
            chosen[name] = _word(value)
    return chosen


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_word, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
