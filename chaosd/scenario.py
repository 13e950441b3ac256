"""The YAML document a run is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaosd import document
from chaosd.checks import base as checks
from chaosd.checks.threshold import DEFAULTS, Threshold
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.faults.base import Fault
from chaosd.faults.base import find as find_fault
from chaosd.faults.base import registry as fault_registry
from chaosd.units import Duration

LONGEST = Duration(30 * 60)
"""No experiment runs longer than this."""

Radius = Literal["single-request", "single-service", "service-cluster", "entire-system"]


class Step(msgspec.Struct, frozen=True):
    """One fault of a scenario and the word for its own target, if it has one."""

    fault: Fault
    target: str = ""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A checked scenario; nothing in it is text with a unit any more."""

    name: str
    faults: tuple[Step, ...]
    duration: Duration
    category: str = ""
    description: str = ""
    blast_radius: Radius = "single-service"
    parameters: dict[str, Any] = {}
    target: str = ""
    steady_state: dict[str, checks.Check] = {}
    observe: dict[str, checks.Check] = {}
    abort_when: tuple[Threshold, ...] = ()
    recover_within: Duration = Duration(120)
    seed: int | None = None


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    faults: list[Any]
    duration: Duration
    category: str = ""
    description: str = ""
    blast_radius: Radius = "single-service"
    parameters: dict[str, Any] = {}
    target: str = ""
    steady_state: list[Any] = []
    observe: list[Any] = []
    abort_when: list[str] = []
    recover_within: Duration = Duration(120)
    seed: int | None = None


def parse(text: str, name: str, overrides: Mapping[str, Any]) -> Scenario:
    """Read a scenario.

    Args:
        text: the YAML document.
        name: what to call it in messages, such as its file name.
        overrides: values for its parameters, and for ``target``, ``duration`` and ``seed``.

    Raises:
        ChaosdError: everything that is wrong, one line each, with file and line.
    """
    data, lines = document.load(text, name)
    problems = Problems(name, lines)
    if not isinstance(data, dict):
        raise ChaosdError(f"{name}: not a scenario", hint="a mapping with name, duration and faults")
    data, parameters = _apply(data, overrides, problems)
    body = {key: value for key, value in data.items() if key != "parameters"}
    body = document.substitute(body, parameters, (), problems)
    values = document.read(_Document, body | {"parameters": parameters}, (), problems)
    if not 0 < values.get("duration", LONGEST) <= LONGEST:
        problems.add(
            ("duration",), f"{values['duration']} is not allowed", f"more than 0 and at most {LONGEST}"
        )
    values |= _checked(values, problems)
    problems.raise_any()
    return Scenario(**values)


def _apply(
    data: dict[str, Any], overrides: Mapping[str, Any], problems: Problems
) -> tuple[dict[str, Any], dict[str, Any]]:
    parameters = data.get("parameters") or {}
    if not isinstance(parameters, dict):
        problems.add(("parameters",), "must be a mapping of names to values")
        parameters = {}
    own = {"target", "duration", "seed"}
    for key in overrides.keys() - parameters.keys() - own:
        problems.add((), f"there is no parameter {key!r}", document.near(key, [*parameters, *own]))
    data = data | {key: overrides[key] for key in own & overrides.keys() - parameters.keys()}
    return data, {key: overrides.get(key, value) for key, value in parameters.items()}


def _checked(values: dict[str, Any], problems: Problems) -> dict[str, Any]:
    steady = _checks(values.get("steady_state", []), "steady_state", problems)
    observe = _checks(values.get("observe", []), "observe", problems)
    items = values.get("faults", [])
    steps = [_step(item, ("faults", i), problems) for i, item in enumerate(items)]
    if "faults" in values and not items:
        problems.add(("faults",), "names no fault", "see: chaosd faults")
    names = [*steady, *observe]
    return {
        "steady_state": steady,
        "observe": observe,
        "faults": tuple(filter(None, steps)),
        "abort_when": _thresholds(values.get("abort_when", []), names, problems),
    }


def _thresholds(texts: list[str], names: list[str], problems: Problems) -> tuple[Threshold, ...]:
    found = []
    for i, text in enumerate(texts):
        try:
            found.append(Threshold.parse(text, names))
        except ChaosdError as error:
            problems.add(("abort_when", i), error.message, error.hint)
    own = {(threshold.check, threshold.metric) for threshold in found}
    return (*found, *(default for default in DEFAULTS if (default.check, default.metric) not in own))


def _step(item: Any, path: document.Path, problems: Problems) -> Step | None:
    named = _named(item, path, problems, "fault")
    if named is None:
        return None
    name, fields = named
    kind = find_fault(name)
    if kind is None:
        problems.add(path, f"unknown fault {name!r}", document.near(name, fault_registry()))
        return None
    target = fields.pop("target", "")
    fault = document.build(kind, fields, (*path, name), problems)
    for problem in fault.check() if fault is not None else ():
        problems.add((*path, name), problem)
    return Step(fault, str(target)) if fault is not None else None


def _checks(items: list[Any], key: str, problems: Problems) -> dict[str, checks.Check]:
    found: dict[str, checks.Check] = {}
    for i, item in enumerate(items):
        named = _named(item, (key, i), problems, "check")
        if named is None:
            continue
        kind, fields = named
        if kind not in checks.registry():
            problems.add((key, i), f"unknown check {kind!r}", document.near(kind, checks.registry()))
            continue
        label = str(fields.pop("name", kind if kind not in found else f"{kind}{i + 1}"))
        check = document.build(checks.registry()[kind], fields, (key, i, kind), problems)
        if check is not None:
            found[label] = check
    return found


def _named(
    item: Any, path: document.Path, problems: Problems, what: str
) -> tuple[str, dict[str, Any]] | None:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        name, fields = next(iter(item.items()))
        if fields is None or isinstance(fields, dict):
            return name, dict(fields or {})
    problems.add(path, f"must be one {what} with its fields", "such as {NAME: {key: value}}")
    return None


def library() -> dict[str, Path]:
    """The scenarios that come with chaosd, by name."""
    here = Path(__file__).resolve().parent
    root = here / "_scenarios" if (here / "_scenarios").is_dir() else here.parent / "scenarios"
    return {path.stem: path for path in sorted(root.glob("*/*.yaml"))}


def find(word: str) -> Path:
    """The file of a scenario: a path, or the name of one that comes with chaosd.

    Raises:
        ChaosdError: there is no such file or name.
    """
    known = library()
    if word in known:
        return known[word]
    path = Path(word)
    if path.is_file():
        return path
    if "/" in word or word.endswith((".yaml", ".yml")):
        raise ChaosdError(f"no such file: {word}")
    raise ChaosdError(f"unknown scenario {word!r}", hint=document.near(word, known))


def load(word: str, overrides: Mapping[str, Any]) -> Scenario:
    """Find and read a scenario; see ``find`` and ``parse``."""
    path = find(word)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), overrides)


def single(fault: str, fields: Mapping[str, Any], target: str, duration: str, seed: int | None) -> Scenario:
    """A scenario of one fault, for ``chaosd inject``."""
    scenario = several([(fault, fields)], fault, duration, seed)
    radius: Radius = "entire-system" if target == "host" else scenario.blast_radius
    return msgspec.structs.replace(scenario, target=target, blast_radius=radius)


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
            built.append(Step(_built(fault, fields)))
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
        name=name, faults=tuple(built), duration=length, blast_radius="service-cluster", seed=seed
    )


def _built(name: str, fields: Mapping[str, Any]) -> Fault:
    kind = find_fault(name)
    if kind is None:
        raise ChaosdError(f"unknown fault {name!r}", hint=document.near(name, fault_registry()))
    problems = Problems(name)
    built = document.build(kind, dict(fields), (), problems)
    for problem in built.check() if built is not None else ():
        problems.add((), problem)
    problems.raise_any()
    assert built is not None
    return built
