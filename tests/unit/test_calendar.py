"""Words of the calendar: zones, days, hours, and cron over the changes between summer and winter."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosd.errors import ChaosdError
from chaosd.orchestrate.words import Cron, Days, Hours, Zone

BERLIN = Zone.parse("Europe/Berlin")


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def dues(cron: str, after: str, count: int) -> list[str]:
    found = islice(Cron.parse(cron).after(utc(after), BERLIN), count)
    return [datetime.fromtimestamp(at, UTC).strftime("%d %H:%M") for at in found]


def test_a_time_that_the_clocks_leave_out_comes_right_after_the_gap() -> None:
    """On 2026-03-29 the clocks of Berlin go from 02:00 to 03:00, at 01:00 UTC."""
    assert dues("30 2 * * *", "2026-03-28T00:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]


def test_a_time_that_the_clocks_show_twice_comes_once() -> None:
    """On 2026-10-25 they go from 03:00 back to 02:00, at 01:00 UTC."""
    assert dues("30 2 * * *", "2026-10-24T12:00", 2) == ["25 00:30", "26 01:30"]
    within = "2026-10-25T01:10"  # the second 02:10: the first 02:30 is over
    assert dues("30 2 * * *", within, 1) == ["26 01:30"]


def test_what_has_a_star_keeps_its_distance_in_real_time() -> None:
    assert dues("*/30 * * * *", "2026-10-25T00:10", 4) == ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]
    assert dues("0 * * * *", "2026-03-29T00:10", 3) == ["29 01:00", "29 02:00", "29 03:00"]


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(["30 2 * * *", "*/7 * * * *", "15 1-3 * * 0", "0 0 1 * *"]), st.floats(1.77e9, 1.80e9))
def test_due_times_go_up_and_are_after_the_moment(cron: str, after: float) -> None:
    found = list(islice(Cron.parse(cron).after(after, BERLIN), 20))
    assert found == sorted(set(found))
    assert found[0] > after


@pytest.mark.parametrize(
    "text", ["", "* * * *", "61 * * * *", "0 0 31 2 *", "0 3 * * x", "every day", f"*/{'9' * 5000} * * * *"]
)
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ChaosdError, match=r"is not a cron expression|is never due"):
        Cron.parse(text)


def test_days_may_be_spans_and_go_over_sunday() -> None:
    assert Days.parse("mon-fri").numbers() == {0, 1, 2, 3, 4}
    assert Days.parse("Sat, sun").numbers() == {5, 6}
    assert Days.parse("fri - mon,wed").numbers() == {4, 5, 6, 0, 2}
    for text in ("monday", "mon--fri", "mon-tue-wed", "-mon", "", "mon,"):
        with pytest.raises(ChaosdError, match="are not days"):
            Days.parse(text)


_LETTERS = st.text("montuefri 0123456789-,:*/#LWJ\0\u0663é", max_size=12)


@settings(deadline=None, max_examples=1000)
@given(st.sampled_from([Cron, Days, Hours, Zone]), _LETTERS | st.text(max_size=8))
def test_whatever_is_written_is_read_or_refused_in_words(
    kind: type[Cron | Days | Hours | Zone], text: str
) -> None:
    try:
        read = kind.parse(text)
    except ChaosdError as error:
        assert error.hint
        return
    if isinstance(read, Days):
        assert read.numbers()
    if isinstance(read, Hours):
        assert max(read.minutes()) <= 24 * 60


@pytest.mark.parametrize("text", ["9-17", "09:00", "09:00-09:00", "09:00-25:00", "09:60-10:00"])
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ChaosdError, match="are not hours"):
        Hours.parse(text)


@pytest.mark.parametrize(
    ("hours", "at", "inside"),
    [
        ("09:00-17:00", "2026-11-27T09:00", True),  # a Friday
        ("09:00-17:00", "2026-11-27T16:59", True),
        ("09:00-17:00", "2026-11-27T17:00", False),
        ("09:00-17:00", "2026-11-28T12:00", False),
        ("22:00-06:00", "2026-11-27T23:00", True),
        ("22:00-06:00", "2026-11-28T05:59", True),  # Friday's night
        ("22:00-06:00", "2026-11-28T23:00", False),
        ("22:00-06:00", "2026-11-23T05:00", False),  # Sunday's night
        ("00:00-24:00", "2026-11-27T00:00", True),
    ],
)
def test_hours_belong_to_the_day_on_which_they_begin(hours: str, at: str, inside: bool) -> None:
    days = Days.parse("mon-fri").numbers()
    assert Hours.parse(hours).cover(datetime.fromisoformat(at), days) is inside


def test_a_zone_that_does_not_exist_is_refused() -> None:
    for word in ("Europe/Bern", "../passwd", "/etc/passwd"):
        with pytest.raises(ChaosdError, match="is not a time zone"):
            Zone.parse(word)
    assert Zone.parse("").local(0).tzinfo is not None
