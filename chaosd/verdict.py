"""How a run can end."""

from __future__ import annotations

from typing import Self

from chaosd.errors import ChaosdError, Exit, TargetLostError, UnsupportedError

VERDICTS = {
    "passed": Exit.OK,
    "failed": Exit.FAILED,
    "target-lost": Exit.FAILED,
    "refused": Exit.REFUSED,
    "aborted": Exit.ABORTED,
    "inconclusive": Exit.INCONCLUSIVE,
    "unsupported": Exit.UNSUPPORTED,
    "interrupted": Exit.INTERRUPTED,
    "not-restored": Exit.NOT_RESTORED,
}
"""The exit status of each verdict."""


class Ended(Exception):  # noqa: N818 - the end of a run is not an error
    """A run ends before its time, with this verdict, for this reason."""

    def __init__(self, verdict: str, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason

    @classmethod
    def of(cls, error: Exception) -> Self:
        """The end that an error brings; one that is an end already stays what it is."""
        if isinstance(error, cls):
            return error
        kinds = {TargetLostError: "target-lost", UnsupportedError: "unsupported", ChaosdError: "refused"}
        return cls(
            next((word for kind, word in kinds.items() if isinstance(error, kind)), "failed"), str(error)
        )
