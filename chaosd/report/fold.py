"""The state of a run, live or finished, folded from its journal; there is no second record of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from chaosd.journal import Record, read

HITS = 100
"""Single events that a view keeps; the journal has all that were recorded."""


class EditState(msgspec.Struct):
    """One edit as the journal knows it: promised, applied, an undo outcome, or stuck."""

    says: str
    state: str = "promised"
    open: bool = True


class Phase(msgspec.Struct, frozen=True):
    """A part of a run and when it began, in CLOCK_BOOTTIME seconds."""

    name: str
    t: float


class Point(msgspec.Struct, frozen=True):
    """One sample: the figures of every check, what each fault had hit until then, and how strong it was.

    ``t`` is CLOCK_BOOTTIME seconds. ``evidence`` holds (matched, injected) so far by fault and target;
    ``levels`` a number from 0 to 1 for each fault of the plan, where the engine tells it.
    """

    t: float
    checks: dict[str, dict[str, Any]] = {}
    evidence: dict[str, tuple[int, int]] = {}
    levels: tuple[float, ...] = ()


class View(msgspec.Struct):
    """A run as of its last record.

    ``live`` and ``fault_ends`` are CLOCK_BOOTTIME seconds: when the fault was in force, and is to end;
    ``started`` and ``ended`` those of its first and its newest record, ``began`` is Unix time.
    ``stats`` holds the checks' figures before, during and after the fault; ``checks`` the newest
    sample; ``evidence`` the kernel's counts, one entry for each fault that counts; ``hits`` the
    newest single events that were recorded; ``levels`` how strong each fault of the plan is, from 0
    to 1; ``expected`` what became of each expectation; ``followed`` how often each fault on its target
    was put on that target anew, since it had been started again. ``series`` has all samples, oldest first.
    """

    run: str = ""
    scenario: str = ""
    plan: dict[str, Any] = {}
    process: dict[str, int] = {}
    began: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    phase: str = "starting"
    live: float = 0.0
    fault_ends: float = 0.0
    checks: dict[str, dict[str, Any]] = {}
    evidence: list[dict[str, Any]] = []
    hits: list[dict[str, Any]] = []
    levels: list[float] = []
    stats: dict[str, dict[str, dict[str, Any]]] = {}
    edits: dict[int, EditState] = {}
    expected: list[dict[str, Any]] = []
    followed: dict[str, int] = {}
    restored: dict[str, Any] = {}
    recovered_after: float | None = None
    verdict: str = ""
    reason: str = ""
    phases: list[Phase] = []
    series: list[Point] = []

    def add(self, record: Record) -> None:
        """Take one more record into account; kinds of a later version are passed over."""
        self.ended = record.get("t", self.ended)
        handler = getattr(self, f"_on_{record['type']}", None)
        if handler is not None:
            handler(record)

    def open_edits(self) -> list[str]:
        """What is promised or applied and not put back."""
        return [edit.says for edit in self.edits.values() if edit.open]

    def brief(self) -> dict[str, Any]:
        """As plain data, without the samples over time."""
        data: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, series=[]))
        del data["series"]
        return data

    def _on_run(self, record: Record) -> None:
        self.run, self.scenario, self.began = record["run"], record["scenario"], record["at"]
        self.started = record["t"]
        self.plan, self.process = record["plan"], record["process"]

    def _on_phase(self, record: Record) -> None:
        self.phase = record["phase"]
        self.phases.append(Phase(self.phase, record["t"]))
        self.fault_ends = record.get("ends", self.fault_ends)
        self.live = record["t"] if self.phase == "fault" else self.live

    def _on_intend(self, record: Record) -> None:
        self.edits[record["n"]] = EditState(record["says"])

    def _on_applied(self, record: Record) -> None:
        self.edits[record["n"]].state = "applied"

    def _on_reverted(self, record: Record) -> None:
        edit = self.edits[record["n"]]
        edit.state, edit.open = record["undo"], False

    def _on_stuck(self, record: Record) -> None:
        self.edits[record["n"]].state = f"stuck: {record['error']}"

    def _on_sample(self, record: Record) -> None:
        self.checks = record["checks"]
        if self.phase not in ("revert", "recover"):  # once the edits are put back, what was counted stays
            self.evidence = record["evidence"] or self.evidence
        self.levels = record.get("levels", [])
        self.hits = [*self.hits, *record.get("hits", ())][-HITS:]
        counts: dict[str, tuple[int, int]] = {}
        for entry in record["evidence"]:
            name = f"{entry['fault']} on {entry['target']}"
            matched, injected = counts.get(name, (0, 0))
            counts[name] = (matched + entry["matched"], injected + entry["injected"])
        self.series.append(Point(record["t"], record["checks"], counts, tuple(record.get("levels", ()))))

    def _on_stats(self, record: Record) -> None:
        self.stats[record["when"]] = record["checks"]

    def _on_followed(self, record: Record) -> None:
        name = f"{record['fault']} on {record['target']}"
        self.followed = self.followed | {name: self.followed.get(name, 0) + 1}

    def _on_expected(self, record: Record) -> None:
        self.expected = record["outcomes"]

    def _on_restored(self, record: Record) -> None:
        self.restored = record

    def _on_recovered(self, record: Record) -> None:
        self.recovered_after = record["took"]

    def _on_end(self, record: Record) -> None:
        self.verdict, self.reason, self.phase = record["verdict"], record["reason"], "ended"


def fold(records: Iterable[Record]) -> View:
    """The state of a run after these records."""
    view = View()
    for record in records:
        view.add(record)
    return view


def of(path: Path) -> View:
    """The state of the run whose journal this is."""
    return fold(read(path))
