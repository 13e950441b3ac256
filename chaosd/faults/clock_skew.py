"""``clock.skew``: a program that chaosd starts is told the wrong time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, ClassVar, Self

from msgspec import Meta

from chaosd.errors import ChaosdError
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel import clock, launch
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target
from chaosd.units import Duration

_HINT = "such as -1h, +90s or 2038-01-19T03:14:00Z"


class Offset(float):
    """Seconds that a clock is ahead; with ``absolute``, the moment that it begins at."""

    what = "signed duration or date"
    example = "-1h"
    absolute = False

    @classmethod
    def parse(cls, text: str | float | date) -> Self:
        """Read ``-1h``, ``+90s``, or a date as ISO 8601 has it, without a zone in local time.

        Raises:
            ChaosdError: it is neither.
        """
        said = str(text).strip()
        try:
            return cls._moment(datetime.fromisoformat(said))
        except ValueError:
            pass
        try:
            sign, length = (said[0], said[1:]) if said[:1] in ("+", "-") else ("+", said)
            return cls(Duration.parse(length) * (-1 if sign == "-" else 1))
        except ChaosdError:
            raise ChaosdError(f"{said!r} is neither a signed duration nor a date", hint=_HINT) from None

    @classmethod
    def _moment(cls, when: datetime) -> Self:
        made = cls(when.timestamp())
        made.absolute = True
        return made

    def ahead(self) -> float:
        """Seconds by which a clock is ahead that is set so now."""
        return self - time.time() if self.absolute else float(self)

    def __str__(self) -> str:
        if self.absolute:
            return datetime.fromtimestamp(self).astimezone().isoformat(" ", "seconds")
        return f"{'-' if self < 0 else '+'}{Duration(abs(self))}" if self else "0s"


class Pace(float):
    """How fast a clock goes; 1 is right."""

    what = "pace"
    example = "1.1x"

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Read ``1.1x``.

        Raises:
            ChaosdError: it is not a number, or outside of 0.01 to 100.
        """
        try:
            value = float(str(text).strip().removesuffix("x"))
        except ValueError:
            value = 0.0
        if not 0.01 <= value <= 100:
            raise ChaosdError(
                f"{text!r} is no pace from 0.01x to 100x", hint="such as 1.1x, a tenth too fast"
            )
        return cls(value)

    def __str__(self) -> str:
        return f"{float(self):g}x"


class ClockSkew(Fault, frozen=True, kw_only=True):
    """The wall clock of a program that `chaosd exec` starts, and of all that it starts, is wrong.

    The host's clock is not touched.
    """

    name: ClassVar[str] = "clock.skew"
    mechanisms: ClassVar = (
        Mechanism(
            "preload",
            (clock.LIBRARY_LOADS,),
            "a library in front of the program's C library; for programs that `chaosd exec` starts",
            launched=True,
        ),
    )

    offset: Annotated[Offset, Meta(description="how far ahead (+) or behind (-), or a date to begin at")] = (
        Offset()
    )
    drift: Annotated[Pace, Meta(description="how fast the clock goes from then on")] = Pace(1.0)

    def check(self) -> list[str]:
        """It must be wrong somehow."""
        return [] if self.offset or self.drift != 1.0 else ["give an offset or a drift, such as offset: -1h"]

    def choose(self) -> Mechanism:
        """The one there is.

        Raises:
            ChaosdError: nothing was started by chaosd.
        """
        if launch.current() is None:
            said = f"{self.name} is only for programs that chaosd starts"
            raise ChaosdError(said, hint="chaosd exec --fault 'clock.skew offset=-1h' -- COMMAND")
        return super().choose()

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One page for the program and its children."""
        started = launch.current()
        assert started is not None
        if why := clock.cannot(started.path):
            raise ChaosdError(why, hint="choose another program")
        first, *_ = target.require_processes()
        return [clock.Clock(first, clock.page_of(at.run, at.index), self.offset.ahead(), self._gain)]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What the program sees."""
        begins = f"says {self.offset}" if self.offset.absolute else f"is wrong by {self.offset}"
        goes = f", and goes at {self.drift}" if self._gain else ""
        return [
            f"the wall clock of {target.spec} {begins} at first{goes}",
            "clocks that only measure time (CLOCK_MONOTONIC) and the times of files are right",
            "the command keeps a library that lets the right time pass",
        ]

    @property
    def _gain(self) -> float:
        return float(self.drift) - 1
