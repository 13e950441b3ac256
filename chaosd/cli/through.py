"""Runs through the daemon: the same records, and so the same picture, as a run of one's own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chaosd import client
from chaosd.client import ForbiddenError
from chaosd.errors import ChaosdError

if TYPE_CHECKING:
    from chaosd.journal import Record


def begin(order: dict[str, Any], load: Callable[[], object]) -> str | None:
    """Have the daemon start a run.

    Args:
        order: as ``orders.Order`` of the daemon.
        load: the same by this process; raises what is wrong in its own words, if it can.

    Returns:
        The run's id; None when it is for this process to do: no daemon serves, or it may not run a program
        that root may.

    Raises:
        ChaosdError: it was refused.
    """
    if not client.wanted():
        return None
    try:
        return str(client.ask("POST", "/v1/runs", order)["run"])
    except ForbiddenError:
        if os.geteuid() == 0:
            return None
        raise
    except ChaosdError:
        load()
        raise


def follow(run: str, show: Callable[[Record], None]) -> int:
    """Follow a run to its end; Ctrl-C ends the run, and this once it is put back.

    Args:
        run: its id.
        show: is given every record.

    Returns:
        The exit status.

    Raises:
        ChaosdError: the daemon died; then it has put the run back.
    """
    from chaosd.verdict import VERDICTS

    former = signal.signal(signal.SIGINT, lambda *_: _stop(run))
    last: Record = {}
    try:
        for record in client.events(run):
            show(record)
            last = record
    finally:
        signal.signal(signal.SIGINT, former)
    if last.get("type") != "end":
        raise ChaosdError(f"the daemon died; run {run} is being put back", hint="chaosd status")
    return int(VERDICTS[last["verdict"]])


def _stop(run: str) -> None:
    # in a thread: what this one waits for is the end of the very stream that is being read
    stop = threading.Thread(target=client.ask, args=("POST", f"/v1/runs/{run}/stop", {}), daemon=True)
    stop.start()
