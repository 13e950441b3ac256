"""How a run can end."""

from __future__ import annotations

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


_OF_ERRORS = {TargetLostError: "target-lost", UnsupportedError: "unsupported", ChaosdError: "refused"}


def ended_by(error: Exception) -> Ended:
    """How a run ends that met an error."""
    if isinstance(error, Ended):
        return error
    verdicts = (verdict for kind, verdict in _OF_ERRORS.items() if isinstance(error, kind))
    return Ended(next(verdicts, "failed"), str(error))
