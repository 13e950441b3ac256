"""Conditions on figures: which end a run, and which the system is expected to meet while the faults last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from chaosd.checks.base import Check, now
from chaosd.checks.stats import Stats
from chaosd.checks.threshold import WINDOW, Figures, Threshold, Watch, defaults
from chaosd.document import Path, Problems
from chaosd.errors import ChaosdError
from chaosd.verdict import Ended


class Outcome(msgspec.Struct, frozen=True):
    """One expectation, whether it came true, and in words what was measured."""

    says: str
    held: bool
    measured: str


class Conditions:
    """Looks at the conditions of a run.

    What is expected of a figure over several probes, such as ``availability``, is judged once, over
    all of the fault. One that single probes measure must be as expected at some time, for as long
    as ``for`` says.

    Args:
        ending: thresholds that end the run.
        expected: what the system must meet: a threshold that is crossed has come true.
    """

    def __init__(self, ending: Sequence[Threshold], expected: Sequence[Threshold]) -> None:
        self._ending = [Watch(each) for each in ending]
        self._expected = expected
        self._awaited = {each: Watch(each) for each in expected if each.samples == 1}
        self._seen: dict[Threshold, Stats] = {}
        self._outcomes: list[Outcome] = []

    def look(self, figures: Figures, live: float) -> str:
        """Note what is true now; which threshold ends the run, in one line, or nothing.

        Args:
            figures: the checks.
            live: since when the fault is, in seconds of ``checks.base.now``.
        """
        for each, watch in self._awaited.items():
            if each not in self._seen and watch.breached(figures, live):
                self._seen[each] = figures.stats(each.check, WINDOW, since=live, at_least=1)
        return next(filter(None, (watch.breached(figures, live) for watch in self._ending)), "")

    def judge(self, figures: Figures, live: float) -> list[dict[str, Any]]:
        """What became of each expectation as of now, as plain data."""
        self._outcomes = [self._outcome(each, figures, now(), live) for each in self._expected]
        return [msgspec.to_builtins(outcome) for outcome in self._outcomes]

    def _outcome(self, each: Threshold, figures: Figures, at: float, live: float) -> Outcome:
        stats = self._seen.get(each) or figures.stats(each.check, at - live, since=live)
        held = each in self._seen if each in self._awaited else each.crossed(stats)
        figure = each.figure(stats)
        if figure is None or (not held and stats.count < each.samples):
            return Outcome(str(each), held, "too few probes to tell")
        return Outcome(str(each), held, f"it was {each.show(figure)}")

    def end(self, end: Ended) -> Ended:
        """How the run ends: one that would have passed has failed if an expectation did not come true."""
        unmet = [f"expected {each.says}, and {each.measured}" for each in self._outcomes if not each.held]
        return Ended("failed", "; ".join(unmet)) if unmet and end.verdict == "passed" else end


def read(
    texts: Iterable[str], path: Path, declared: Mapping[str, Check], problems: Problems
) -> list[Threshold]:
    """The thresholds of a list in a document.

    Args:
        texts: as the user wrote them.
        path: where the list stands.
        declared: the checks there are, by name.
        problems: takes every mistake.
    """
    found = []
    for i, text in enumerate(texts):
        try:
            found.append(Threshold.parse(text, declared))
        except ChaosdError as error:
            problems.add((*path, i), error.message, error.hint)
    return found


def ending(texts: Iterable[str], declared: Mapping[str, Check], problems: Problems) -> tuple[Threshold, ...]:
    """What ends a run: the thresholds of ``abort_when``, and the defaults that they do not replace."""
    found = read(texts, ("abort_when",), declared, problems)
    own = {(threshold.check, threshold.metric) for threshold in found}
    return (*found, *(default for default in defaults() if (default.check, default.metric) not in own))


def expected(
    texts: Iterable[str], declared: Mapping[str, Check], problems: Problems
) -> tuple[Threshold, ...]:
    """What is expected of the system: the thresholds of ``expect``, which must be such as can be judged."""
    path = ("expect",)
    found = read(texts, path, declared, problems)
    if not declared and any(not each.check for each in found):
        problems.add(path, "the scenario has no checks that could tell", "put one under steady_state")
    for each in found:
        if each.hold and each.samples > 1:
            said = f"{each.metric} is taken over all of the fault"
            problems.add(path, f"{said}, so it cannot be so for {each.hold}", "leave for out")
    return tuple(found)
