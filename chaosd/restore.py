"""Putting a run's changes back and proving it: the same code for engine, watchdog and by hand."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import msgspec

from chaosd.errors import ChaosdError
from chaosd.journal import Journal, Record
from chaosd.kernel.edit import Edit, Undo, from_data


def surroundings(edits: Iterable[Edit]) -> dict[str, str]:
    """The state around all of these edits, by name; what cannot be read is left out."""
    state: dict[str, str] = {}
    for edit in edits:
        try:
            state |= edit.surroundings()
        except (OSError, ChaosdError):
            continue  # the target is gone, and what was around it with it
    return state


def undo(journal: Journal) -> list[str]:
    """Put back every open edit, in reverse, trying each one.

    What was promised under another boot of the kernel died with it.

    Returns:
        One line for each edit that is stuck; it stays open in the journal.
    """
    same_boot = journal.same_boot()
    attempts = (_undo_one(journal, n, record, same_boot) for n, record in reversed(journal.open_edits()))
    return [problem for problem in attempts if problem]


def _undo_one(journal: Journal, number: int, record: Record, same_boot: bool) -> str:
    outcome = Undo.GONE
    try:
        if same_boot:
            edit = from_data(record["edit"])
            outcome = edit.revert()
            if outcome is Undo.DONE and edit.present():
                raise ChaosdError("the kernel still shows it after it was put back")
    except Exception as error:  # noqa: BLE001 - an undo that fails must not stop the ones below it
        with suppress(OSError):
            journal.stuck(number, error)
        return f"{record['says']}: {error}"
    with suppress(OSError):  # the deed counts more than its record; undoing it twice does no harm
        journal.reverted(number, outcome)
    return ""


def differences(journal: Journal) -> tuple[int, list[str]]:
    """Compare the host with the snapshot taken before the first edit.

    Returns:
        How many readings were compared, and the names of those that differ.
    """
    records = journal.records()
    before: dict[str, str] = next((r["state"] for r in records if r["type"] == "before"), {})
    promised = []
    for record in records:
        if record["type"] == "intend":
            try:
                promised.append(from_data(record["edit"]))
            except msgspec.ValidationError:
                continue  # written by another version; undo has said so
    after = surroundings(promised)
    both = before.keys() & after.keys()
    return len(both), sorted(name for name in both if before[name] != after[name])


def close_out(journal: Journal, verdict: str, reason: str) -> list[str]:
    """Put everything back, compare the host with the snapshot, and end the run.

    Args:
        journal: the run, locked by the caller; moved to the history when nothing is stuck.
        verdict: how the run ended, if it was not ended before.
        reason: why, in words.

    Returns:
        One line for each edit that could not be put back; the journal stays live then.
    """
    problems = undo(journal)
    if not problems:
        compared, differs = differences(journal) if journal.same_boot() else (0, [])
        journal.write("restored", compared=compared, differs=differs)
        journal.write("end", verdict=verdict, reason=reason)
        journal.finish()
    return problems
