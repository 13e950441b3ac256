"""Errors on their way from a child to the API, and from there to a client."""

from __future__ import annotations

from typing import Any

from chaosd.errors import BusyError, ChaosdError, Exit

_STATUS = {Exit.UNSUPPORTED: 501, Exit.NOT_RESTORED: 500}
REFUSED = 422


class DeniedError(ChaosdError):
    """A request that is answered with a status of its own."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


def status_of(error: ChaosdError) -> int:
    """The HTTP status that says the same."""
    if isinstance(error, DeniedError):
        return error.status
    return 409 if isinstance(error, BusyError) else _STATUS.get(error.exit, REFUSED)


def record(error: ChaosdError) -> dict[str, Any]:
    """The error as a child tells it."""
    said = {"error": error.message, "hint": error.hint, "exit": int(error.exit)}
    return {"type": "error", "status": status_of(error), **said}


def raise_any(told: dict[str, Any]) -> None:
    """Raise the error that a child's record tells, if it does."""
    if told["type"] == "error":
        error = DeniedError(told["status"], told["error"], told["hint"])
        error.exit = Exit(told["exit"])
        raise error
