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


class View(msgspec.Struct):
    """A run as of its last record.

    ``live`` and ``fault_ends`` are CLOCK_BOOTTIME seconds: when the fault was in force, and is to end.
    ``stats`` holds the checks' figures before, during and after the fault; ``checks`` the newest
    sample; ``evidence`` the kernel's counts, one entry for each fault that counts; ``hits`` the
    newest single events that were recorded; ``levels`` how strong each fault of the plan is, from 0 to 1.
    """

    run: str = ""
    scenario: str = ""
    plan: dict[str, Any] = {}
    process: dict[str, int] = {}
    began: float = 0.0
    phase: str = "starting"
    live: float = 0.0
    fault_ends: float = 0.0
    checks: dict[str, dict[str, Any]] = {}
    evidence: list[dict[str, Any]] = []
    hits: list[dict[str, Any]] = []
    levels: list[float] = []
    stats: dict[str, dict[str, dict[str, Any]]] = {}
    edits: dict[int, EditState] = {}
    restored: dict[str, Any] = {}
    recovered_after: float | None = None
    verdict: str = ""
    reason: str = ""

    def add(self, record: Record) -> None:
        """Take one more record into account; kinds of a later version are passed over."""
        handler = getattr(self, f"_on_{record['type']}", None)
        if handler is not None:
            handler(record)

    def open_edits(self) -> list[str]:
        """What is promised or applied and not put back."""
        return [edit.says for edit in self.edits.values() if edit.open]

    def _on_run(self, record: Record) -> None:
        self.run, self.scenario, self.began = record["run"], record["scenario"], record["at"]
        self.plan, self.process = record["plan"], record["process"]

    def _on_phase(self, record: Record) -> None:
        self.phase = record["phase"]
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
        # once the edits are put back, nothing counts any more; what was counted stays
        self.checks, self.evidence = record["checks"], record["evidence"] or self.evidence
        self.levels = record.get("levels", [])
        self.hits = [*self.hits, *record.get("hits", ())][-HITS:]

    def _on_stats(self, record: Record) -> None:
        self.stats[record["when"]] = record["checks"]

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
