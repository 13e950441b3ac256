"""Limits on their way from where they begin to be felt to what is wanted."""

import pytest

from chaosd.kernel import dial


@pytest.mark.parametrize(
    ("loose", "tight", "strength", "value"),
    [
        ("200000 100000", "20000 100000", 0, "200000 100000"),
        ("200000 100000", "20000 100000", 0.5, "110000 100000"),
        ("200000 100000", "20000 100000", 1, "20000 100000"),
        ("200%", "20%", 0.25, "155%"),
        ("1048576", "524288", 0.5, "786432"),
    ],
)
def test_the_first_number_moves(loose: str, tight: str, strength: float, value: str) -> None:
    assert dial.between(loose, tight, strength) == value
    assert dial.lies_between(value, loose, tight)


@pytest.mark.parametrize("value", ["max", "max 100000", "10000 100000", "300000 100000", "50000 50000", ""])
def test_what_others_wrote_does_not_lie_between(value: str) -> None:
    assert not dial.lies_between(value, "200000 100000", "20000 100000")


def test_it_turns_in_steps_and_tells_only_of_another_one() -> None:
    assert not dial.turn("test:slot", 1.0)
    assert dial.turn("test:slot", 0.5)
    assert not dial.turn("test:slot", 0.51)
    assert dial.turn("test:slot", 0.56)
    assert dial.wanted("test:slot", "200", "100") == "145"
    dial.strengths.pop("test:slot")
