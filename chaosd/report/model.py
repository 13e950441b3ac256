"""A report as data: what every form of it shows, and what ``--format json`` prints."""

from __future__ import annotations

from typing import Annotated

import msgspec

from chaosd.report.score import Coverage, Score

FORMAT = 1
"""The version of this document; it changes when a field goes away or comes to mean something else."""


def _said(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


Seconds = Annotated[float, _said("seconds")]
Since = Annotated[float, _said("seconds since the fault was in force; since the start if it never was")]
Share = Annotated[float, _said("a share from 0 to 1")]


class Skipped(msgspec.Struct, frozen=True):
    """A scenario that was not run, such as one that this host cannot do, and why."""

    scenario: str
    reason: str


class Check(msgspec.Struct, frozen=True):
    """One check: what it asks for, whether it is part of the steady state, and its figures.

    ``before``, ``during`` and ``after`` hold ``p50``, ``p95``, ``p99`` and ``max`` in seconds,
    ``availability`` and ``error_rate`` as shares, ``per_second`` in probes, ``count``, and what the
    kind of check measures itself; a figure that cannot be told is left out.
    """

    name: str
    asks: str
    steady: bool
    before: dict[str, float]
    during: dict[str, float]
    after: dict[str, float]
    failure: Annotated[str, _said("the newest failure during the fault")] = ""


class Fault(msgspec.Struct, frozen=True):
    """One fault as planned; ``starts`` and ``ends`` are seconds of the fault phase."""

    fault: str
    target: str
    mechanism: str
    irreversible: bool
    fields: Annotated[dict[str, str], _said("what was chosen for it")]
    edits: tuple[str, ...]
    effect: Annotated[tuple[str, ...], _said("what a user was to see, as planned")]
    starts: Seconds
    ends: Seconds
    shape: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """What the kernel counted for one fault; ``processes`` has the pids with the most hits."""

    fault: str
    target: str
    unit: str
    matched: int
    injected: int
    skipped: dict[str, int]
    processes: dict[int, int]


class Hit(msgspec.Struct, frozen=True):
    """One event that got a fault."""

    at: Since
    fault: str
    pid: int
    comm: str
    call: str
    result: str
    detail: str = ""


class Edit(msgspec.Struct, frozen=True):
    """One change and what became of it."""

    says: str
    state: str
    open: bool


class Restoration(msgspec.Struct, frozen=True):
    """Whether the host is as before.

    ``compared`` readings were taken before and after; ``differs`` names those that differ.
    """

    restored: bool
    says: str
    took: Seconds | None
    compared: int
    differs: tuple[str, ...]


class Fact(msgspec.Struct, frozen=True):
    """A figure about resilience beside its target; ``met`` is None when there is nothing to judge."""

    name: str
    value: float | None
    shown: str
    target: str
    met: bool | None


class Phase(msgspec.Struct, frozen=True):
    """A part of the run."""

    name: str
    begins: Since
    ends: Since


class Line(msgspec.Struct, frozen=True):
    """A threshold that ends the run, and whether it did. ``limit`` is a share, seconds, or a plain number."""

    says: str
    check: str
    metric: str
    limit: float
    crossed: bool


class Expectation(msgspec.Struct, frozen=True):
    """What is expected of the system during the fault, whether it came true, and what was measured."""

    says: str
    held: bool
    measured: str


class Series(msgspec.Struct, frozen=True):
    """The samples over time, by column, all of one length; None where nothing was measured.

    ``checks`` has ``p50``, ``p95``, ``availability`` and ``per_second`` by check. ``faults`` has
    ``matched`` and ``injected`` a second by fault; ``levels`` is how strong each fault was, 0 to 1.
    """

    at: list[float]
    checks: dict[str, dict[str, list[float | None]]]
    faults: dict[str, dict[str, list[float | None]]]
    levels: dict[str, list[float | None]]


class Run(msgspec.Struct, frozen=True):
    """One run."""

    run: str
    scenario: str
    category: str
    description: str
    targets: tuple[str, ...]
    verdict: str
    reason: str
    began: Annotated[float, _said("Unix time")]
    took: Seconds
    duration: Annotated[float, _said("how long the faults were to last, in seconds")]
    in_force: Annotated[float, _said("how long they were in force, in seconds")]
    seed: int
    radius: str
    command: Annotated[str, _said("does the same again")]
    faults: tuple[Fault, ...]
    checks: tuple[Check, ...]
    availability: Annotated[float | None, _said("share of good probes of the steady state during the fault")]
    steady_share: Annotated[float | None, _said("share of the fault's time in which the steady state held")]
    recovered_after: Seconds | None
    hits: Annotated[int | None, _said("events that got a fault; null when nothing counts them")]
    facts: tuple[Fact, ...]
    score: Score
    restoration: Restoration
    thresholds: tuple[Line, ...]
    expected: tuple[Expectation, ...]
    evidence: tuple[Evidence, ...]
    followed: Annotated[
        dict[str, int], _said("how often the target of a fault was started again and followed")
    ]
    single: Annotated[tuple[Hit, ...], _said("the newest single hits")]
    edits: tuple[Edit, ...]
    phases: tuple[Phase, ...]
    series: Series


class Report(msgspec.Struct, frozen=True):
    """One or several runs, and scenarios that were not run."""

    format: int
    title: str
    version: Annotated[str, _said("of chaosd")]
    score: Coverage
    runs: tuple[Run, ...]
    skipped: tuple[Skipped, ...]
