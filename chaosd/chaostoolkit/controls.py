"""A control for experiments of the Chaos Toolkit: however one ends, no fault outlives it."""

from __future__ import annotations

from typing import Any

from chaosd.chaostoolkit import held

__all__ = ["after_experiment_control"]


def after_experiment_control(state: dict[str, Any], **_: Any) -> None:
    """Lift what is live; what becomes of it is kept in the journal, which ``state`` is, as ``chaosd``."""
    run = held.newest()
    if run is not None:
        if run.live:
            run.end()
        state["chaosd"] = run.brief()
