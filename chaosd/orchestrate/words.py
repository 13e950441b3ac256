"""Words of the calendar, checked once at the edge: time zones, hours, days and cron expressions.

Moments are seconds since the epoch throughout, for two times of one zone cannot be compared: where
the clock is put back, the later one can be the smaller one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from chaosd.errors import ChaosdError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_WORD = rf"\s*(?:{'|'.join(_DAYS)})\s*"
_SPANS = re.compile(rf"{_DAY_WORD}(?:-{_DAY_WORD})?(?:[,\s]{_DAY_WORD}(?:-{_DAY_WORD})?)*\Z")
_SPAN = re.compile(r"([a-z]+)(?:\s*-\s*([a-z]+))?")
_HOURS = re.compile(r"(\d{1,2}):([0-5]\d)\s*-\s*(\d{1,2}):([0-5]\d)\Z")
_DAY = 24 * 60
_LOCALTIME = "/etc/localtime"  # localtime(5)


class Zone(str):
    """A time zone such as ``Europe/Berlin``; empty for the host's own."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name of the zone database (``ChaosdError`` if it has none such)."""
        zone = cls(str(text))
        try:
            zone.info()
        except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
            raise ChaosdError(
                f"{text!r} is not a time zone", hint="such as Europe/Berlin; the database is package tzdata"
            ) from None
        return zone

    def info(self) -> tzinfo:
        """The zone itself, with its changes between summer and winter."""
        if self:
            return ZoneInfo(self)
        try:
            with open(_LOCALTIME, "rb") as file:
                return ZoneInfo.from_file(file)
        except FileNotFoundError:
            return ZoneInfo("UTC")  # what the C library takes then (localtime(5))

    def local(self, at: float) -> datetime:
        """A moment as the clocks of this zone show it."""
        return datetime.fromtimestamp(at, self.info())


class Days(str):
    """Days of the week: ``mon-fri``, ``sat,sun``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read days and spans of days (``ChaosdError`` if they are none)."""
        if not _SPANS.match(str(text).lower()):
            raise ChaosdError(f"{text!r} are not days", hint="such as mon-fri or sat,sun")
        return cls(text.lower())

    def numbers(self) -> set[int]:
        """The same, 0 for Monday to 6 for Sunday; a span may go over Sunday."""
        found: set[int] = set()
        for first, last in _SPAN.findall(self):
            start, end = _DAYS.index(first), _DAYS.index(last or first)
            found |= {number % 7 for number in range(start, end + (1 if end >= start else 8))}
        return found


class Hours(str):
    """Hours of a day: ``09:00-17:00``, the end not included; ``22:00-06:00`` goes over midnight."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a span of hours (``ChaosdError`` if it is none)."""
        hours = cls(str(text))
        match = _HOURS.match(hours.strip())
        if match is None or max(hours.minutes()) > _DAY or len(set(hours.minutes())) == 1:
            raise ChaosdError(f"{text!r} are not hours", hint='such as "09:00-17:00" or "00:00-24:00"')
        return hours

    def minutes(self) -> tuple[int, int]:
        """Its beginning and end, in minutes since midnight."""
        match = _HOURS.match(self.strip())
        assert match is not None
        numbers = [int(part) for part in match.groups()]
        return numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]

    def cover(self, at: datetime, days: set[int]) -> bool:
        """Whether a time of the clock is within these hours of these days (0 is Monday).

        Hours that go over midnight belong to the day on which they begin.
        """
        first, last = self.minutes()
        minute = at.hour * 60 + at.minute
        if first < last:
            return first <= minute < last and at.weekday() in days
        began_yesterday = minute < last
        day = at.weekday() if not began_yesterday else (at - timedelta(days=1)).weekday()
        return (minute >= first or began_yesterday) and day in days


class Cron(str):
    """A cron expression of five fields, or of six with seconds in front.

    Changes between summer and winter are dealt with as by Debian's cron(8): what is due at a fixed
    time that the clocks leave out comes right after the gap, what would come twice comes once;
    what has ``*`` for its hour or minute keeps its distance in real time.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expression (``ChaosdError`` if it is none, or never comes)."""
        cron = cls(str(text))
        try:
            next(CronSim(cron, datetime.fromtimestamp(0, ZoneInfo("UTC"))))
        except (CronSimError, ValueError) as error:
            raise ChaosdError(
                f"{text!r} is not a cron expression: {error}", hint="such as '0 3 * * 1'"
            ) from None
        except StopIteration:
            raise ChaosdError(f"{text!r} is never due", hint="such as '0 3 * * 1'") from None
        return cron

    def after(self, at: float, zone: Zone) -> Iterator[float]:
        """When it is due after a moment, in order; moments are seconds since the epoch."""
        for due in CronSim(self, zone.local(at)):
            # in the hour that comes twice the library begins with the first one again
            if (moment := due.timestamp()) > at:
                yield moment
