"""The run of an experiment: one at a time, from the activity that begins it to the one that lifts it.

It is this process's own; when the process dies, in whatever way, it is put back.
"""

from __future__ import annotations

from typing import Any

from chaosd.embed.run import Run
from chaosd.errors import BusyError, ChaosdError

_held: list[Run] = []


def newest() -> Run | None:
    """The run that was begun last, live or over."""
    return _held[-1] if _held else None


def begin(run: Run) -> dict[str, Any]:
    """Begin a run and hold it.

    Raises:
        BusyError: the one before is live.
        ChaosdError: as ``Run.start`` has it.
    """
    before = newest()
    if before is not None and before.live:
        raise BusyError(f"run {before.id} of this experiment is live", hint="lift_faults comes first")
    run.start()
    _held[:] = [run]
    return {"run": run.id, "phase": run.phase, "faults": run.plan["faults"]}


def lift(*, allow_miss: bool) -> dict[str, Any]:
    """Lift what is held, and tell what it was; nothing when nothing is held.

    Raises:
        ChaosdError: as ``Run.end`` has it; or a fault hit nothing and that is not allowed.
    """
    run = newest()
    if run is None:
        return {}
    run.end()
    return told(run, allow_miss=allow_miss)


def told(run: Run, *, allow_miss: bool) -> dict[str, Any]:
    """What became of a run, for the journal of the experiment.

    Raises:
        ChaosdError: it did not pass.
    """
    if run.verdict != "passed" and not (allow_miss and run.verdict == "inconclusive"):
        raise ChaosdError(str(run))
    return {
        "run": run.id,
        "verdict": run.verdict,
        "reason": run.reason,
        "matched": run.matched,
        "injected": run.injected,
        "evidence": run.evidence,
        "recovered_after": run.recovered_after,
        "says": str(run),
    }
