"""Putting a run's changes back and proving it: the same code for engine, watchdog and by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import msgspec

from chaosd import patience, timer
from chaosd.errors import ChaosdError
from chaosd.journal import Journal, Record, live, tidy
from chaosd.kernel import cgroup_scrub, leftovers
from chaosd.kernel.edit import Edit, Undo, from_data
from chaosd.patience import silent

STALE_TIMEOUT = 60.0
"""Seconds to wait for a dead run's watchdog, which holds the journal while it works."""

State = dict[str, dict[str, str]]


def surroundings(edits: Iterable[Edit], beat: Callable[[], None] = silent) -> State:
    """What is around these edits: for each scope, values by name; ``beat`` as in ``undo``."""
    state: State = {}
    for edit in edits:
        beat()
        if edit.scope not in state:
            try:
                state[edit.scope] = edit.surroundings()
            except (OSError, ChaosdError):
                state[edit.scope] = {}  # the target is gone, and what was around it with it
    return state


def undo(
    journal: Journal, beat: Callable[[], None] = silent, only: Collection[int] | None = None
) -> list[str]:
    """Put back every open edit, in reverse, trying each one.

    What was promised under another boot of the kernel died with it.

    Args:
        journal: the run, locked by the caller.
        beat: called before and after each edit, and during those that are slow, as a sign of life.
        only: numbers of the edits that are meant; None for all.

    Returns:
        One line for each edit that is stuck; it stays open in the journal.
    """
    same_boot = journal.same_boot()
    problems = []
    for number, record in reversed(journal.open_edits()):
        if only is None or number in only:
            problems.append(_undo_one(journal, number, record, same_boot, beat))
    return [problem for problem in problems if problem]


def _undo_one(
    journal: Journal, number: int, record: Record, same_boot: bool, beat: Callable[[], None]
) -> str:
    outcome = Undo.GONE
    beat()
    try:
        if same_boot:
            edit = from_data(record["edit"])
            outcome = patience.revert(edit, beat)
            beat()
            if outcome is Undo.DONE and edit.present():
                raise ChaosdError("the kernel still shows it after it was put back")
    except Exception as error:  # noqa: BLE001 - an undo that fails must not stop the ones below it
        journal.stuck(number, error)
        return f"{record['says']}: {error}"
    journal.reverted(number, outcome)
    return ""


def differences(journal: Journal, beat: Callable[[], None] = silent) -> tuple[int, list[str]]:
    """Compare the host with the snapshot taken before the first edit; ``beat`` as in ``undo``.

    Returns:
        How many readings were compared, and the names of those that differ, appeared or vanished.
    """
    records = journal.records()
    before: State = {}  # of a target that was started again, as it was then
    for record in records:
        before |= record["state"] if record["type"] == "before" else {}
    promised = []
    for record in records:
        if record["type"] == "intend":
            with suppress(msgspec.ValidationError):  # written by another version; undo has said so
                promised.append(from_data(record["edit"]))
    compared, differs = 0, []
    for scope, now in surroundings(reversed(promised), beat).items():
        then = before.get(scope, {})
        names = now.keys() | then.keys() if now else set()  # nothing to compare with where all is gone
        compared += len(names)
        differs += [name for name in names if now.get(name) != then.get(name)]
    return compared, sorted(differs)


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
        if not any(
            record["type"] == "end" and record["verdict"] != "not-restored" for record in journal.records()
        ):
            journal.write("end", verdict=verdict, reason=reason)
        timer.disarm(journal.run)
        journal.finish()
        tidy()
    return problems


def recover_stale() -> list[str]:
    """Put back what runs that died left behind; called with the host lock held.

    Returns:
        One line for each edit that is still stuck.
    """
    problems = []
    cgroup_scrub.sweep()
    for path in live():
        journal = Journal.take_over(path, timeout=STALE_TIMEOUT)
        if journal is not None:
            problems += close_out(journal, "killed", "found by the next run")
            journal.close()
    return problems


def scrub() -> tuple[list[str], list[str]]:
    """Remove everything on this host that bears chaosd's mark; to be called when no run is live.

    Returns:
        What was removed, and what would not go and why.
    """
    removed, kept = [], []
    for leftover in leftovers.ours():
        try:
            leftover.remove()
        except (OSError, ChaosdError) as error:
            kept.append(f"{leftover}: {error}")
        else:
            removed.append(str(leftover))
    return removed, kept
