"""What can go wrong because of the user, the host or the target: one line and a hint."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """The exit status of every command."""

    OK = 0
    FAILED = 1  # steady state or recovery failed
    REFUSED = 2  # bad input, unsafe, or the steady state did not hold at the start
    ABORTED = 3  # by a threshold; host restored
    INCONCLUSIVE = 4  # the fault hit nothing
    UNSUPPORTED = 5  # this host cannot do it
    INTERRUPTED = 6  # host restored
    NOT_RESTORED = 10  # something could not be put back


class ChaosdError(Exception):
    """An expected failure.

    Args:
        message: one line: what is wrong and where.
        hint: one line: what would be right.
    """

    exit = Exit.REFUSED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UnsupportedError(ChaosdError):
    """This kernel or host lacks what the request needs; the hint says what would mend it."""

    exit = Exit.UNSUPPORTED


class TargetLostError(ChaosdError):
    """The target died or was replaced while it was held."""

    exit = Exit.FAILED


class ForeignStateError(ChaosdError):
    """A piece of kernel state is in the way that chaosd did not make."""


class BusyError(ChaosdError):
    """Another run holds this host; the message says which."""


class NotRestoredError(ChaosdError):
    """Something of an earlier run could not be put back, and comes first."""

    exit = Exit.NOT_RESTORED


class DiedError(ChaosdError):
    """What did the work has died; what it had changed is put back."""

    exit = Exit.FAILED


class EndedEarlyError(ChaosdError):
    """The faults were over before the block of a program that was to run under them; host restored."""

    exit = Exit.ABORTED


_KINDS = (ChaosdError, UnsupportedError, TargetLostError, ForeignStateError, BusyError, NotRestoredError)


def to_data(error: ChaosdError) -> dict[str, Any]:
    """An error for another process."""
    kind = next(kind.__name__ for kind in reversed(_KINDS) if isinstance(error, kind))
    return {"kind": kind, "message": error.message, "hint": error.hint, "exit": int(error.exit)}


def of_data(data: dict[str, Any]) -> ChaosdError:
    """The error that another process has told."""
    kind = next(kind for kind in _KINDS if kind.__name__ == data["kind"])
    error = kind(data["message"], hint=data["hint"])
    error.exit = Exit(data["exit"])
    return error
