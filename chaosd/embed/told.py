"""Runs by the daemon, for members of its group; they end with the connection that tells of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chaosd import client
from chaosd.errors import ChaosdError, DiedError
from chaosd.journal import Record


class Told:
    """A run by the daemon.

    Args:
        order: as ``orders.Order`` of the daemon.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._run = ""
        self._stopped = False

    def follow(self, note: Callable[[Record], None]) -> None:
        """Have it done, note every record, and return when it is over.

        Raises:
            ChaosdError: it was refused.
            DiedError: the daemon died.
        """
        last: Record = {}
        for record in client.attend(self._order):
            self._run = self._run or record["run"]
            note(record)
            if self._stopped:
                return  # who does not listen any more ends it
            last = record
        if last.get("type") != "end":
            said = f"the daemon died; run {self._run} is being put back"
            raise DiedError(said, hint="chaosd status")

    def end(self) -> None:
        """Lift the faults now, as if their time were over."""
        self._ask("lift")

    def stop(self) -> None:
        """End the run, whatever it is at."""
        self._stopped = not self._run
        self._ask("stop")

    def _ask(self, what: str) -> None:
        if self._run:
            with suppress(ChaosdError):  # it is over, and how is in its records
                client.ask("POST", f"/v1/runs/{self._run}/{what}", {})
