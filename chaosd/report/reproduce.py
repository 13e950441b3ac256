"""The command that does a run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import msgspec

from chaosd.faults.base import find
from chaosd.report.fold import View
from chaosd.scenario import library
from chaosd.units import Duration


def command(view: View) -> str:
    """A command line with the same faults, targets, length and seed.

    For a scenario that does not come with chaosd the name of its file is to be filled in, and so are the
    arguments of a program that ``chaosd exec`` started.
    """
    return " ".join(["chaosd", *_words(view), "--seed", str(view.plan.get("seed", 0))]) + _tail(view)


def _words(view: View) -> Iterator[str]:
    faults = view.plan.get("faults", ())
    targets = list(dict.fromkeys(fault.get("word") or fault["target"] for fault in faults))
    if view.scenario.startswith("exec "):
        yield "exec"
        for fault in faults:
            yield f"--fault {shlex.quote(' '.join([fault['fault'], *_fields(fault)]))}"
    elif len(targets) == 1 and find(view.scenario) is not None:
        yield from ("inject", view.scenario, *map(shlex.quote, _fields(faults[0])))
        yield f"--target {shlex.quote(targets[0])}"
    else:
        yield "run"
        yield shlex.quote(view.scenario) if view.scenario in library() else "FILE"
        yield from (f"--target {shlex.quote(target)}" for target in targets if len(targets) == 1)
        parameters = view.plan.get("parameters", {})
        yield from (f"--set {shlex.quote(f'{key}={_plain(value)}')}" for key, value in parameters.items())
    if view.plan.get("on_restart") == "follow" and not view.scenario.startswith("exec "):
        yield "--on-restart follow"
    yield f"--duration {Duration(view.plan.get('duration', 0))}"


def _fields(fault: dict[str, dict[str, str]]) -> list[str]:
    return [f"{key}={value}" for key, value in fault.get("fields", {}).items()]


def _plain(value: object) -> str:
    # what --set reads is YAML, and JSON is YAML
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _tail(view: View) -> str:
    return (
        f" -- {shlex.quote(view.scenario.removeprefix('exec '))} ..."
        if view.scenario.startswith("exec ")
        else ""
    )
