"""How a run can end."""

from __future__ import annotations

from chaosd.errors import Exit

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
