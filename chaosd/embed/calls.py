"""What ``import chaosd`` offers: runs, plans and what this host can do, from a Python program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from chaosd import client
from chaosd.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chaosd.embed.run import Run

Scenario = str | os.PathLike[str] | Mapping[str, Any]
"""A file, the name of a scenario that comes with chaosd, or one as data."""


def inject(
    fault: str,
    *,
    target: str,
    duration: str = "60s",
    seed: int | None = None,
    on_restart: str | None = None,
    entire_system: bool = False,
    **fields: Any,
) -> Run:
    """One fault, for a block to run under.

        with chaosd.inject("network.delay", delay="100ms", ports=[5432], target="pid:4711") as run:
            ...

    Args:
        fault: its name.
        target: what to aim at, such as ``container:api``.
        duration: how long it lasts at most, with a unit; it ends with the block.
        seed: of every random choice.
        on_restart: of its target, ``end`` the run or ``follow``.
        entire_system: yes, this may reach the entire system.
        fields: of the fault, as ``chaosd faults show`` has them.

    Returns:
        The run, not yet begun.

    Raises:
        UnsupportedError: neither root, nor is there a daemon to ask.
    """
    own = {"target": target, "duration": duration} | _given(seed=seed, on_restart=on_restart)
    if _alone():
        return _own({"fault": fault, "fields": fields, "own": own}, entire_system)
    del own["target"]
    return _told(client.single(fault, fields, target, **own), entire_system)


def running(
    scenario: Scenario,
    *,
    target: str | None = None,
    duration: str | None = None,
    seed: int | None = None,
    on_restart: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    entire_system: bool = False,
) -> Run:
    """A scenario, for a block to run under its faults; its steady state must hold before and after.

    Args:
        scenario: which one.
        target: what to aim at, instead of what it says itself.
        duration: how long its faults last at most, with a unit; they end with the block.
        seed: of every random choice.
        on_restart: of its target, ``end`` the run or ``follow``, instead of what it says itself.
        parameters: values for its parameters.
        entire_system: yes, this may reach the entire system.

    Returns:
        The run, not yet begun.

    Raises:
        UnsupportedError: neither root, nor is there a daemon to ask; or its file cannot be read.
    """
    own = _given(target=target, duration=duration, seed=seed, on_restart=on_restart)
    if _alone():
        return _own(_for_own(scenario) | {"set": dict(parameters or {}), "own": own}, entire_system)
    return _told(_for_daemon(scenario) | {"set": dict(parameters or {})} | own, entire_system)


def run(scenario: Scenario, **options: Any) -> Run:
    """Do a run from its beginning to its end.

    Args:
        scenario: which one.
        options: as those of ``running``.

    Returns:
        The run, which is over: its verdict, reason, exit status, evidence and report.

    Raises:
        UnsupportedError: this host cannot do it; the message says why.
        BusyError: another run holds the host.
        NotRestoredError: the host could not be put back.
        ChaosdError: it was refused before it began.
    """
    made = running(scenario, **options)
    made.complete()
    return made


def dry_run(
    scenario: Scenario,
    *,
    target: str | None = None,
    duration: str | None = None,
    seed: int | None = None,
    on_restart: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run would do on this host, as ``chaosd plan --json`` has it; nothing is touched.

    Args:
        scenario: as those of ``running``, and so are the others.
        target: see there.
        duration: see there.
        seed: see there.
        on_restart: see there.
        parameters: see there.

    Raises:
        UnsupportedError: this host cannot do it; the message says why.
        ChaosdError: it would be refused.
    """
    own = _given(target=target, duration=duration, seed=seed, on_restart=on_restart)
    given = {"set": dict(parameters or {})}
    if _alone():
        from chaosd.embed.own import ask

        return dict(ask({"deed": "plan"} | _for_own(scenario) | given | {"own": own}))
    return dict(client.ask("POST", "/v1/plans", _for_daemon(scenario) | given | own))


def available(fault: str) -> str | None:
    """Why this host cannot do a fault, found out by trying; None when it can.

    Raises:
        ChaosdError: there is no such fault.
    """
    if os.geteuid() == 0:
        from chaosd.embed.own import ask

        found = ask({"deed": "available", "fault": fault})
        return None if found is None else str(found)
    if not client.wanted():
        return str(_nobody())
    client.ask("GET", f"/v1/faults/{fault}")  # says so if there is none
    entries = {entry["fault"]: entry for entry in client.ask("GET", "/v1/capabilities")["faults"]}
    entry = entries[fault]
    if entry["mechanism"]:
        return None
    return "; ".join(f"by {name}, {', '.join(why)}" for name, why in entry["missing"].items())


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _alone() -> bool:
    # Root does without the daemon: a run of the daemon's is nobody's, this one is to end with its program.
    if os.geteuid() == 0:
        return True
    if not client.wanted():
        raise _nobody()
    return False


def _nobody() -> UnsupportedError:
    return UnsupportedError(
        "chaosd changes kernel state and must be root",
        hint="or have chaosd.service run, and be a member of its group",
    )


def _own(order: dict[str, Any], confirmed: bool) -> Run:
    from chaosd.embed.own import Own
    from chaosd.embed.run import Run

    return Run(Own({"deed": "run", "yes_entire_system": confirmed} | order))


def _told(order: dict[str, Any], confirmed: bool) -> Run:
    from chaosd.embed.run import Run
    from chaosd.embed.told import Told

    return Run(Told(order | {"yes_entire_system": confirmed}))


def _for_own(scenario: Scenario) -> dict[str, Any]:
    if isinstance(scenario, Mapping):
        return {"text": _as_text(scenario)}
    return {"scenario": os.fspath(scenario)}


def _for_daemon(scenario: Scenario) -> dict[str, Any]:
    if isinstance(scenario, Mapping):
        return {"text": _as_text(scenario), "folder": os.getcwd()}
    return dict(client.named(os.fspath(scenario)))


def _as_text(scenario: Mapping[str, Any]) -> str:
    return json.dumps(dict(scenario), default=str)  # which is YAML, too
