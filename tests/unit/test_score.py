"""docs/score.md, number by number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import LIMIT, cut, plan, stats, told

from chaosd.faults.base import registry
from chaosd.report import score
from chaosd.report.words import points


def test_nothing_wrong_is_a_hundred_less_the_time_to_recover() -> None:
    assert score.of_run(told(recovered=0.0)).value == 100
    made = score.of_run(told(recovered=12.0))
    assert made.value == pytest.approx(98.5)
    assert [part.name for part in made.parts] == list(score.WEIGHTS)
    assert sum(score.WEIGHTS.values()) == 100


def test_the_example_of_the_page() -> None:
    made = score.of_run(told(during=stats(0.2, ok=285, count=300), recovered=24.0))
    assert [part.points for part in made.parts] == pytest.approx([47.5, 20, 27])
    assert made.value == pytest.approx(94.5)
    assert "285 of 300" in made.parts[0].why


@pytest.mark.parametrize(("took", "expected"), [(0, 30), (120, 15), (240, 0), (1000, 0), (None, 0)])
def test_recovery_falls_evenly_to_nothing_at_twice_the_target(took: float | None, expected: float) -> None:
    verdict = "passed" if took is not None else "failed"
    part = score.of_run(told(recovered=took, verdict=verdict)).parts[2]
    assert part.points == pytest.approx(expected)


def test_endurance_is_the_share_of_time_until_a_threshold() -> None:
    made = score.of_run(told(verdict="aborted", reason=f"{LIMIT}: it is 1.2s (samples: 9)", lasted=2.5))
    assert made.parts[1].points == pytest.approx(5)
    assert LIMIT in made.parts[1].why
    assert made.parts[2].points > 29, "recovery is measured after an abort, too"


def test_a_lost_target_has_a_score_without_recovery() -> None:
    made = score.of_run(
        told(verdict="target-lost", reason="pid 7 is gone", lasted=5, recovered=None, after=False)
    )
    assert [part.points for part in made.parts] == pytest.approx([50, 10, 0])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"verdict": "inconclusive"}, "inconclusive shows nothing"),
        ({"verdict": "refused"}, "refused shows nothing"),
        ({"verdict": "unsupported"}, "unsupported shows nothing"),
        ({"verdict": "interrupted"}, "interrupted shows nothing"),
        ({"verdict": "killed"}, "killed shows nothing"),
        ({"verdict": "not-restored"}, "not-restored shows nothing"),
        ({"verdict": "aborted", "reason": "the watchdog died"}, "no threshold"),
        ({"verdict": "failed", "after": False, "recovered": None}, "broke off"),
        ({"steady_state": {}}, "no steady state"),
        ({"during": stats(0.2, ok=4, count=4)}, "fewer than 5"),
        ({"during": stats(None, ok=0, count=0)}, "fewer than 5"),
    ],
)
def test_what_shows_nothing_has_no_score_rather_than_zero(words: dict[str, Any], why: str) -> None:
    made = score.of_run(told(**words))
    assert (made.value, made.parts) == (None, ())
    assert why in made.why_not
    assert points(made.value) == "-"


def test_a_run_that_is_not_over_has_no_score() -> None:
    made = score.of_run(cut(lambda record: record["type"] == "end"))
    assert made.value is None
    assert "unfinished" in made.why_not


def test_a_service_that_was_down_all_the_time_and_came_back_has_what_is_left() -> None:
    made = score.of_run(told(during=stats(None, ok=0), recovered=0.0))
    assert made.value == 50


@given(
    ok=st.integers(0, 500),
    more=st.integers(0, 500),
    took=st.floats(0, 1e6),
    lasted=st.sampled_from([0.5, 5, 40]),
)
def test_a_score_is_from_0_to_100_and_its_parts_add_up(
    ok: int, more: int, took: float, lasted: float
) -> None:
    made = score.of_run(told(during=stats(0.2, ok=ok, count=ok + more + 5), recovered=took, lasted=lasted))
    assert made.value is not None
    assert 0 <= made.value <= 100
    assert made.value == pytest.approx(sum(part.points for part in made.parts))


def test_each_family_counts_the_same_however_many_runs_it_has() -> None:
    disk = [dict(plan()["faults"][0], fault="memory.limit")]
    views = [
        told(recovered=0.0),
        told(recovered=0.0),
        told(recovered=0.0),
        told(recovered=120.0, faults=disk),
    ]
    made = score.of_runs(views)
    assert made.families == {"memory": 85.0, "network": 100.0}
    assert made.value == 92.5
    both = [*plan()["faults"], *disk]
    assert score.of_runs([told(recovered=0.0, faults=both)]).families == {"memory": 100.0, "network": 100.0}


def test_what_was_not_tried_or_not_scored_is_told_and_takes_nothing_away() -> None:
    made = score.of_runs([told(recovered=0.0), told(verdict="inconclusive")])
    assert (made.value, made.scored, made.runs) == (100, 1, 2)
    known = {name.partition(".")[0] for name in registry()}
    assert set(made.untried) == known - {"network", "probe"}
    nothing = score.of_runs([told(verdict="unsupported")])
    assert (nothing.value, nothing.families, nothing.scored) == (None, {}, 0)
    assert score.of_runs([]).value is None


@pytest.mark.parametrize(
    ("value", "shown"), [(100.0, "100"), (99.99, "99.9"), (0.0, "0"), (47.5, "47.5"), (None, "-")]
)
def test_points_are_rounded_down(value: float | None, shown: str) -> None:
    assert points(value) == shown
