"""Shapes: strengths between nothing and all, the same for the same seed, and as they are described."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.shape import SHAPES, Constant, Pulse, Ramp, Random, Shape, Steps
from chaosd.units import Duration, Percent

SOME = (
    Constant(),
    Ramp(),
    Ramp(up=Duration(3), down=Duration(4)),
    Steps(levels=[Percent(10), Percent(0), Percent(100)]),
    Pulse(on=Duration(2), off=Duration(0.5)),
    Random(on=Duration(1), off=Duration(2)),
)


def test_every_shape_has_an_example_here() -> None:
    assert {type(shape) for shape in SOME} == set(SHAPES.values())


@given(st.sampled_from(SOME), st.floats(0.01, 2000), st.floats(0, 1), st.integers(0, 2**64 - 1))
def test_a_strength_is_a_share_and_the_same_each_time(
    shape: Shape, lasts: float, part: float, seed: int
) -> None:
    strength = shape.strength(part * lasts, lasts, seed)
    assert 0 <= strength <= 1
    assert strength == shape.strength(part * lasts, lasts, seed)
    assert shape.gradual or strength in (0, 1)


@pytest.mark.parametrize(
    ("shape", "strengths"),
    [
        (Constant(), [1, 1, 1, 1, 1]),
        (Ramp(), [0, 0.25, 0.5, 0.75, 1]),
        (Ramp(up=Duration(4)), [0, 0.5, 1, 1, 1]),
        (Ramp(up=Duration(2), down=Duration(4)), [0, 1, 1, 0.5, 0]),
        (Steps(levels=[Percent(20), Percent(60)]), [0.2, 0.2, 0.6, 0.6, 0.6]),
        (Steps(levels=[Percent(20), Percent(60)], every=Duration(6)), [0.2, 0.2, 0.2, 0.6, 0.6]),
        (Pulse(on=Duration(2), off=Duration(2)), [1, 0, 1, 0, 1]),
    ],
)
def test_strength_over_eight_seconds(shape: Shape, strengths: list[float]) -> None:
    assert [shape.strength(at, 8, 0) for at in (0, 2, 4, 6, 8)] == pytest.approx(strengths)


def test_random_stretches_have_the_asked_means_and_hang_on_the_seed() -> None:
    shape, lasts = Random(on=Duration(1), off=Duration(3)), 20_000.0
    moments = [i * 0.1 for i in range(200_000)]
    seen = [shape.strength(at, lasts, 4) for at in moments[:20_000]]
    assert 0.2 < sum(seen) / len(seen) < 0.33, "a quarter, and a little for the shortest that there is"
    assert seen[0] == 1
    assert seen != [shape.strength(at, lasts, 5) for at in moments[:20_000]]


def test_a_pulse_too_short_to_follow_is_refused() -> None:
    assert Pulse(on=Duration(0.1), off=Duration(1)).check() == ["100ms is shorter than 200ms"]
    assert Random(on=Duration(1), off=Duration(0)).check()
