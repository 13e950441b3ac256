"""Runs through the daemon: the same records, and so the same picture, as a run of one's own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from chaosd import client
from chaosd.client import ForbiddenError, GoneError
from chaosd.errors import ChaosdError, DiedError

if TYPE_CHECKING:
    from chaosd.journal import Record

_ENDING = (signal.SIGINT, signal.SIGTERM)  # not SIGHUP: the daemon goes on when a terminal is closed


def begin(order: dict[str, Any], load: Callable[[], object]) -> str | None:
    """Have the daemon start a run.

    Args:
        order: as ``orders.Order`` of the daemon.
        load: the same by this process; raises what is wrong in its own words, if it can.

    Returns:
        The run's id; None when it is for this process to do, see ``asked``.

    Raises:
        ChaosdError: it was refused.
    """
    try:
        begun = asked("/v1/runs", order)
    except ForbiddenError:
        raise
    except ChaosdError:
        load()
        raise
    return begun and str(begun["run"])


def asked(path: str, order: dict[str, Any]) -> Any:
    """What the daemon answers to an order.

    Returns:
        None when it is for this process to do: no daemon serves, or it may not run a program that root may.

    Raises:
        ChaosdError: it was refused.
    """
    if not client.wanted():
        return None
    try:
        return client.ask("POST", path, order)
    except ForbiddenError:
        if os.geteuid() == 0:
            return None
        raise


def follow(run: str, show: Callable[[Record], None]) -> int:
    """Follow a run to its end; Ctrl-C and SIGTERM end the run, and this once it is put back.

    Args:
        run: its id.
        show: is given every record.

    Returns:
        The exit status.

    Raises:
        DiedError: the daemon died; then its run is being put back.
    """
    from chaosd.verdict import VERDICTS

    last: Record = {}
    with stopping(f"/v1/runs/{run}/stop"), suppress(GoneError):
        for record in client.events(run):
            show(record)
            last = record
    if last.get("type") != "end":
        raise DiedError(f"the daemon died; run {run} is being put back", hint="chaosd status")
    return int(VERDICTS[last["verdict"]])


@contextmanager
def stopping(path: str) -> Iterator[None]:
    """While this lasts, Ctrl-C and SIGTERM have the daemon do this, and nothing else."""

    def stop() -> None:
        with suppress(ChaosdError):  # how it ended is told by what is being followed
            client.ask("POST", path, {})

    def note(*_: object) -> None:
        # in a thread: what this one waits for is the end of the very stream that is being read
        threading.Thread(target=stop, daemon=True).start()

    former = {number: signal.signal(number, note) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
