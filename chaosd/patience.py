"""Doing what the kernel may take seconds for, without falling silent meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

from chaosd.kernel.edit import Edit, Undo

LIMIT = 30.0
"""Seconds after which no more signs of life are given for it, so that the watchdog takes over."""
_BEAT = 0.1

T = TypeVar("T")


def silent() -> None:
    """No sign of life, for whoever need not give any: then no thread is started either."""


def apply(edit: Edit, beat: Callable[[], None]) -> None:
    """Apply an edit; ``beat`` is called all the while if it is a slow one."""
    _call(edit, edit.apply, beat)


def revert(edit: Edit, beat: Callable[[], None]) -> Undo:
    """Revert an edit; ``beat`` is called all the while if it is a slow one."""
    return _call(edit, edit.revert, beat)


def _call(edit: Edit, deed: Callable[[], T], beat: Callable[[], None]) -> T:
    return _Work(deed).done(beat) if edit.slow and beat is not silent else deed()


class _Work(Thread, Generic[T]):
    def __init__(self, deed: Callable[[], T]) -> None:
        super().__init__(name="slow", daemon=True)
        self._deed = deed
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._deed()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error

    def done(self, beat: Callable[[], None]) -> T:
        try:
            self.start()
        except RuntimeError:  # no more threads: a fault may be why, and this may be its undo
            return self._deed()
        try:
            for _ in range(round(LIMIT / _BEAT)):
                self.join(_BEAT)
                if not self.is_alive():
                    break
                beat()
        finally:
            self.join()  # whatever comes next, such as its undo, must not meet it at work
        if self._error is not None:
            raise self._error
        return self._result
