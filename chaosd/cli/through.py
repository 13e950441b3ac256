"""Runs through the daemon: the same records, and so the same picture, as a run of one's own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chaosd import client
from chaosd.verdict import VERDICTS

if TYPE_CHECKING:
    from chaosd.journal import Record
    from chaosd.scenario import Scenario


def possible(scenario: Scenario) -> bool:
    """Whether a daemon should do it: one serves, and it would run no program of the user's."""
    checks = (scenario.steady_state | scenario.observe).values()
    programs = [*(check.executes for check in checks), *(step.fault.executes for step in scenario.faults)]
    return not any(programs) and client.wanted()


def execute(order: dict[str, Any], show: Callable[[Record], None]) -> int:
    """Have the daemon do a run, and follow it; Ctrl-C ends the run, and this once it is put back.

    Args:
        order: as ``orders.Order`` of the daemon.
        show: is given every record.

    Returns:
        The exit status.

    Raises:
        ChaosdError: it was refused, or the daemon died; then it has put the run back.
    """
    run = client.ask("POST", "/v1/runs", order)["run"]
    former = signal.signal(signal.SIGINT, lambda *_: _stop(run))
    last: Record = {}
    try:
        for record in client.events(run):
            show(record)
            last = record
    finally:
        signal.signal(signal.SIGINT, former)
    verdict = last.get("verdict", "interrupted")
    return int(VERDICTS[verdict])


def _stop(run: str) -> None:
    # in a thread: what this one waits for is the end of the very stream that is being read
    stop = threading.Thread(target=client.ask, args=("POST", f"/v1/runs/{run}/stop", {}), daemon=True)
    stop.start()
