"""What the figures of a run mean for it: an end before its time, a wider share, an expectation come true."""

from __future__ import annotations

from chaosd.canary import Widening
from chaosd.checks.threshold import Figures, Watch
from chaosd.expectation import Expectations, Outcome
from chaosd.scenario import Scenario
from chaosd.verdict import Ended


class Judge:
    """Looks at the figures again and again while the fault is in force.

    Args:
        scenario: what it says of thresholds, expectations and the canary.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._watches = [Watch(threshold) for threshold in scenario.abort_when]
        self._expectations = Expectations(scenario.expect)
        self._widening = Widening(scenario.canary)

    @property
    def share(self) -> float:
        """How much of what the faults meet may be hit now, from 0 to 1."""
        return self._widening.share

    def look(self, figures: Figures, at: float, live: float) -> None:
        """Judge the newest figures.

        Args:
            figures: the checks.
            at: now, in seconds of ``checks.base.now``.
            live: since when the fault is, on the same clock.

        Raises:
            Ended: a threshold is crossed.
        """
        for watch in self._watches:
            if breach := watch.breached(figures, live):
                raise Ended("aborted", breach)
        self._expectations.look(figures, live)
        self._widening.look(figures, at, live)

    def outcomes(self, figures: Figures, at: float, live: float) -> list[Outcome]:
        """What became of each expectation, as of now."""
        return self._expectations.outcomes(figures, at, live)
