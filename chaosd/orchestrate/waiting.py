"""Waiting for a time of day, or for a signal that asks for an end."""

from __future__ import annotations

import os
import select
import time
from types import FrameType
from typing import Self

from chaosd.interrupt import Interrupt

_LOOK = 60.0


class Stop(Interrupt):
    """Notes a signal that asks for an end, while its block lasts, and can be waited for.

    ``number`` is the signal's, or 0.
    """

    def __enter__(self) -> Self:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        os.close(self._fd)

    @property
    def number(self) -> int:
        """Which signal has come."""
        return self._number

    def fileno(self) -> int:
        """Readable once a signal has come."""
        return self._fd

    def _note(self, number: int, frame: FrameType | None) -> None:
        super()._note(number, frame)
        os.eventfd_write(self._fd, 1)

    def wait(self, seconds: float) -> bool:
        """Sleep so long, or until a signal comes; whether one has."""
        return bool(select.select([self], [], [], max(seconds, 0))[0])

    def wait_until(self, at: float) -> bool:
        """Sleep towards a moment, in seconds since the epoch; whether a signal has come.

        Returns after a minute at the latest, for the clock may be set meanwhile: ask again.
        """
        return self.wait(min(at - time.time(), _LOOK))
