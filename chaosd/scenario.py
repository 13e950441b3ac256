"""The YAML document a run is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaosd import document, expectation, step
from chaosd.canary import Canary, CanaryFields
from chaosd.checks import base as checks
from chaosd.checks.ready import implied
from chaosd.checks.threshold import HOST, Threshold, defaults
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.step import Step
from chaosd.units import Duration

LONGEST = Duration(30 * 60)
"""No experiment runs longer than this."""

Radius = Literal["single-request", "single-service", "service-cluster", "entire-system"]
OnRestart = Literal["end", "follow"]
"""What becomes of a run whose target ends: it ends as well, or waits for it and goes on."""


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
    on_restart: OnRestart = "end"
    steady_state: dict[str, checks.Check] = {}
    observe: dict[str, checks.Check] = {}
    abort_when: tuple[Threshold, ...] = ()
    expect: tuple[Threshold, ...] = ()
    canary: Canary | None = None
    recover_within: Duration = Duration(120)
    seed: int | None = None

    @property
    def checks(self) -> dict[str, checks.Check]:
        """Every check that is sampled, by name; of the host also when only a threshold asks for it."""
        declared = self.steady_state | self.observe
        return declared | implied(self.thresholds, declared)

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Every threshold that is watched."""
        return (*self.abort_when, *self.expect, *(self.canary.shrink_when if self.canary else ()))


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    faults: list[Any]
    duration: Duration
    category: str = ""
    description: str = ""
    blast_radius: Radius = "single-service"
    parameters: dict[str, Any] = {}
    target: str = ""
    on_restart: OnRestart = "end"
    steady_state: list[Any] = []
    observe: list[Any] = []
    abort_when: list[str] = []
    expect: list[str] = []
    canary: Any = None
    recover_within: Duration = Duration(120)
    seed: int | None = None


def parse(text: str, name: str, overrides: Mapping[str, Any]) -> Scenario:
    """Read a scenario.

    Args:
        text: the YAML document.
        name: what to call it in messages, such as its file name.
        overrides: values for its parameters, and for ``target``, ``on_restart``, ``duration`` and ``seed``.

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
    own = {"target", "on_restart", "duration", "seed"}
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
    for name in steady.keys() & observe.keys():
        problems.add(("observe",), f"a check of the steady state is called {name!r}, too", "give it a name")
    declared = steady | observe
    _check_times(steps, values.get("duration"), problems)
    return {
        "steady_state": steady,
        "observe": observe,
        "faults": tuple(filter(None, steps)),
        "abort_when": _aborting(values.get("abort_when", []), declared, problems),
        "expect": _expected(values.get("expect", []), declared, problems),
        "canary": _canary(values.get("canary"), declared, problems),
    }


def _check_times(steps: list[Step | None], duration: Duration | None, problems: Problems) -> None:
    for i, found in enumerate(steps):
        if found is None or duration is None:
            continue
        end = Duration(found.start + found.lasts)
        if end > duration or found.start == duration:
            said = f"lasts until {end}, and the run until {duration}"
            problems.add(("faults", i), said, "a longer duration, or an earlier start")


def _canary(item: Any, declared: dict[str, checks.Check], problems: Problems) -> Canary | None:
    if item is None:
        return None
    fields = document.build(CanaryFields, item, ("canary",), problems)
    if fields is None:
        return None
    shares = fields.steps
    if list(shares) != sorted(set(shares)) or not shares[0]:
        problems.add(("canary", "steps"), "must grow from over 0%", "such as [1%, 10%, 100%]")
    shrink = _thresholds(fields.shrink_when, ("canary", "shrink_when"), declared, problems)
    return Canary(steps=shares, of=fields.of, every=fields.every, shrink_when=tuple(shrink))


def _aborting(
    texts: list[str], declared: dict[str, checks.Check], problems: Problems
) -> tuple[Threshold, ...]:
    found = _thresholds(texts, ("abort_when",), declared, problems)
    own = {(threshold.check, threshold.metric) for threshold in found}
    return (*found, *(default for default in defaults() if (default.check, default.metric) not in own))


def _expected(
    texts: list[str], declared: dict[str, checks.Check], problems: Problems
) -> tuple[Threshold, ...]:
    found = _thresholds(texts, ("expect",), declared, problems)
    expectation.check(found, [*declared], ("expect",), problems)
    return tuple(found)


def _thresholds(
    texts: Iterable[str], path: document.Path, declared: dict[str, checks.Check], problems: Problems
) -> list[Threshold]:
    found = []
    for i, text in enumerate(texts):
        try:
            found.append(Threshold.parse(text, declared))
        except ChaosdError as error:
            problems.add((*path, i), error.message, error.hint)
    return found


def _step(item: Any, path: document.Path, problems: Problems) -> Step | None:
    named = document.named(item, path, problems, "fault")
    return step.build(*named, (*path, named[0]), problems) if named else None


def _checks(items: list[Any], key: str, problems: Problems) -> dict[str, checks.Check]:
    found: dict[str, checks.Check] = {}
    for i, item in enumerate(items):
        named = document.named(item, (key, i), problems, "check")
        if named is None:
            continue
        kind, fields = named
        if kind not in checks.registry():
            problems.add((key, i), f"unknown check {kind!r}", document.near(kind, checks.registry()))
            continue
        label = str(fields.pop("name", kind if kind not in found else f"{kind}{i + 1}"))
        if label in found or (label == HOST and kind != HOST):
            problems.add((key, i), f"the name {label!r} is taken", "give it another")
        check = document.build(checks.registry()[kind], fields, (key, i, kind), problems)
        for problem in check.check() if check is not None else ():
            problems.add((key, i, kind), problem)
        if check is not None:
            found[label] = check
    return found


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
    raise ChaosdError(f"unknown scenario {word!r}", hint=document.near(word, known, "chaosd scenarios list"))


def load(word: str, overrides: Mapping[str, Any]) -> Scenario:
    """Find and read a scenario; see ``find`` and ``parse``."""
    text, name = read(word)
    return parse(text, name, overrides)


def read(word: str) -> tuple[str, str]:
    """The text of a scenario, and what to call it in messages; see ``find``."""
    path = find(word)
    try:
        return path.read_text("utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{path}: cannot be read: {error}") from None
