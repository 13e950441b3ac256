import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.errors import ChaosdError
from chaosd.units import Duration, Percent, Quantity, Rate, Size


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Duration, "100ms", 0.1),
        (Duration, "1.5s", 1.5),
        (Duration, "2m", 120),
        (Duration, "0", 0),
        (Duration, 0, 0),
        (Percent, "12.5%", 12.5),
        (Percent, 20, 20),
        (Rate, "10mbit", 1e7),
        (Size, "64MiB", 64 * 2**20),
        (Size, "1kB", 1000),
    ],
)
def test_reads_what_users_write(kind: type[Quantity], text: str | float, value: float) -> None:
    assert kind.parse(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (Duration, "5", "has no unit"),
        (Duration, "5 parsecs", "unknown"),
        (Duration, "-1s", "not a duration"),
        (Duration, "", "not a duration"),
        (Duration, True, "not a duration"),
        (Percent, "101%", "over 100%"),
        (Percent, "nan", "not a percentage"),
        (Rate, "10 mb", "unknown"),
        (Size, "1e5B", "not a size"),
    ],
)
def test_refuses_with_one_line_that_says_what_would_be_right(
    kind: type[Quantity], text: str, says: str
) -> None:
    with pytest.raises(ChaosdError) as caught:
        kind.parse(text)
    assert says in caught.value.message
    assert "\n" not in str(caught.value)
    assert kind.example in str(caught.value)


@given(st.text() | st.floats() | st.integers())
def test_no_text_gives_anything_but_a_quantity_or_a_refusal(text: str | float) -> None:
    for kind in (Duration, Percent, Rate, Size):
        try:
            assert kind.parse(text) >= 0
        except ChaosdError as error:
            assert error.hint


@given(st.floats(min_value=1e-6, max_value=1e5))
def test_what_is_shown_can_be_read_again(seconds: float) -> None:
    assert Duration.parse(str(Duration(seconds))) == pytest.approx(seconds, rel=1e-4)


@pytest.mark.parametrize("seconds", [1e-12, 1e-7, 0.5, 3600 * 1e6, 3600 * 1.5e20])
def test_what_is_shown_can_be_read_whatever_its_size(seconds: float) -> None:
    assert Duration.parse(str(Duration(seconds))) == pytest.approx(seconds, rel=1e-5)
