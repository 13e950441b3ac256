"""What a scenario expects of the system while the faults are in force, and whether that came true."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chaosd.checks.stats import Stats
from chaosd.checks.threshold import WINDOW, Figures, Threshold, Watch
from chaosd.document import Path, Problems


class Outcome(msgspec.Struct, frozen=True):
    """One expectation, whether it came true, and in words what was measured."""

    says: str
    held: bool
    measured: str


class Expectations:
    """Looks at what is expected.

    A figure over several probes, such as ``availability``, is taken once, over all of the fault. One
    that single probes measure must be as expected at some time, for as long as ``for`` says.

    Args:
        expected: what is; a threshold that is crossed has come true.
    """

    def __init__(self, expected: Sequence[Threshold]) -> None:
        self._expected = expected
        self._watches = {each: Watch(each) for each in expected if each.samples == 1}
        self._seen: dict[Threshold, Stats] = {}

    def look(self, figures: Figures, live: float) -> None:
        """Note what is true now.

        Args:
            figures: the checks.
            live: since when the fault is, in seconds of ``checks.base.now``.
        """
        for each, watch in self._watches.items():
            if each not in self._seen and watch.breached(figures, live):
                self._seen[each] = figures.stats(each.check, WINDOW, since=live, at_least=1)

    def outcomes(self, figures: Figures, at: float, live: float) -> list[Outcome]:
        """What became of each of them, as of now (``at``, on the same clock)."""
        return [self._outcome(each, figures, at, live) for each in self._expected]

    def _outcome(self, each: Threshold, figures: Figures, at: float, live: float) -> Outcome:
        stats = self._seen.get(each) or figures.stats(each.check, at - live, since=live)
        held = each in self._seen if each in self._watches else each.crossed(stats)
        figure = each.figure(stats)
        few = figure is None or stats.count < each.samples
        measured = "too few probes to tell" if few or figure is None else f"it was {each.show(figure)}"
        return Outcome(str(each), held, measured)


def unmet(outcomes: Sequence[Outcome]) -> str:
    """What did not come true, in one line; empty if all did."""
    return "; ".join(f"expected {each.says}, and {each.measured}" for each in outcomes if not each.held)


def check(expected: Sequence[Threshold], names: Sequence[str], path: Path, problems: Problems) -> None:
    """Note expectations that can never be judged.

    Args:
        expected: what is.
        names: the checks there are.
        path: where it stands in the document.
        problems: takes every mistake.
    """
    if not names and any(not each.check for each in expected):
        problems.add(path, "the scenario has no checks that could tell", "put one under steady_state")
    for each in expected:
        if each.hold and each.samples > 1:
            said = f"{each.metric} is taken over all of the fault"
            problems.add(path, f"{said}, so it cannot be so for {each.hold}", "leave for out")
