"""Signals that ask for an end, noted where the work can be ended in order."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

from chaosd.verdict import Ended

WANTED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Notes the first of ``WANTED`` while its block lasts, instead of what else they would do."""

    def __init__(self) -> None:
        self._number = 0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._former = {number: signal.signal(number, self._note) for number in WANTED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number

    def check(self) -> None:
        """Raise ``Ended`` if a signal has come."""
        if self._number:
            raise Ended("interrupted", f"by {signal.Signals(self._number).name}")
