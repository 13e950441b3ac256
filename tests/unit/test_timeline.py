"""Faults on their way through a run, with edits that note what they are told."""

from __future__ import annotations

from chaosd.direct import single
from chaosd.faults.base import Planning
from chaosd.kernel.edit import Control, Edit
from chaosd.plan import Plan, PlannedFault
from chaosd.shape import Constant
from chaosd.targets.model import Target
from chaosd.timeline import Timeline

AT = Planning("000000", 0, 1, "", 10.0)
TOLD: list[tuple[float, float]] = []


class Noted(Edit, frozen=True, tag="test.noted"):
    """Can be of any strength."""

    @property
    def control(self) -> Control:
        """Any."""
        return "dial"

    def scale(self, strength: float, share: float) -> None:
        """Note it."""
        TOLD.append((strength, share))


def test_a_fault_that_stays_as_it_is_is_not_set_again_and_again() -> None:
    """A quota that is written anew is full again: a throttled CPU would get twice its share."""
    TOLD.clear()
    scenario = single("cpu.throttle", {"percent": "20%"}, "host", "10s", 1)
    step = scenario.faults[0].fault
    planned = PlannedFault(step, Target("host"), AT, (Noted(),), (), 0.0, 10.0, Constant())
    applied: list[Edit] = []
    plan = Plan("000000", 1, scenario, (planned,), "entire-system", {})
    timeline = Timeline(plan, applied.append, lambda _: None, lambda *_, **__: None)
    for tick in range(20):
        timeline.move(tick / 10, 1.0)
    assert applied == [Noted()]
    assert TOLD == [(1.0, 1.0)] * 2, "before it is applied, and once it is"
    timeline.move(2.0, 0.5)
    timeline.move(2.1, 0.5)
    assert TOLD[2:] == [(1.0, 0.5)]
