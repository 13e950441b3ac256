"""What a check is: typed fields and one measurement."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Annotated, ClassVar, Self

import msgspec

from chaosd.checks.figures import Figure
from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.units import Duration

PerSecond = Annotated[float, msgspec.Meta(gt=0, le=500, description="probes a second while the run lasts")]


class Pattern(str):
    """A regular expression as Python's ``re`` has them."""

    what: ClassVar[str] = "regular expression"
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one.

        Raises:
            ChaosdError: it is none.
        """
        try:
            re.compile(cls(text))
        except (re.error, RecursionError, OverflowError) as error:
            raise ChaosdError(
                f"{text!r} is not a regular expression: {error}", hint="such as ERROR|FATAL"
            ) from None
        return cls(text)


class AbsolutePath(str):
    """Where a file is, from the root."""

    what: ClassVar[str] = "path"
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one.

        Raises:
            ChaosdError: it does not begin at the root, or cannot be a path.
        """
        path = cls(text)
        if not path.startswith("/") or "\0" in path:
            raise ChaosdError(f"{text!r} is not an absolute path", hint="such as /var/log/app.log")
        return path


def now() -> float:
    """CLOCK_BOOTTIME in seconds, the clock of every time in this package."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Failed(Exception):  # noqa: N818 - what a measurement found, not a fault of the program
    """The measured thing is not as it should be.

    Args:
        detail: a few words: what came instead.
        answered: true when something answered, so that the time it took is a latency.
        figures: what was measured nevertheless.
    """

    def __init__(
        self, detail: str, *, answered: bool = False, figures: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.answered = answered
        self.figures = figures or {}


class Reading(msgspec.Struct, frozen=True):
    """A good answer: a few words about it, and what was measured, by the names that its kind declares."""

    detail: str
    figures: Mapping[str, float] = {}


class Sample(msgspec.Struct, frozen=True):
    """One probe. ``began`` and ``ended`` are seconds of ``now()``.

    ``latency`` is in seconds: the time to an answer, good or bad, or the time waited in vain (so
    at least that long); None when there was nothing to time, such as a refused connection.
    ``figures`` is what was measured, good or bad, in the units that the kind declares.
    """

    began: float
    ended: float
    ok: bool
    latency: float | None
    detail: str
    figures: Mapping[str, float] = {}


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of measurement; its fields are the YAML keys, the validation and the help.

    A subclass sets ``kind`` and writes ``measure`` and ``describe``; a new kind is one file here.
    ``gives`` names what it measures beside how often it holds and how long that takes; ``modules`` are
    what it imports that may not be there, each with how to install it. ``netns`` is ``target``, the
    name of a network namespace, or empty for the caller's own.
    """

    kind: ClassVar[str] = ""
    gives: ClassVar[Mapping[str, Figure]] = {}
    modules: ClassVar[Mapping[str, str]] = {}

    within: Annotated[Duration, msgspec.Meta(description="longest time it may take")] = Duration(1)
    rate: PerSecond = 1.0
    netns: Annotated[str, msgspec.Meta(description="where to measure: target, or a name")] = ""

    def describe(self) -> str:
        """One line for ``chaosd plan``: what must hold."""
        raise NotImplementedError

    @property
    def judges(self) -> bool:
        """Whether it can find something wrong; the figures of all checks leave out what only measures."""
        return True

    def check(self) -> list[str]:
        """What is wrong with the fields taken together, one line each."""
        return []

    def demand(self, *figures: str) -> None:
        """Make sure that this host can measure it, and these of ``gives`` above all.

        Raises:
            UnsupportedError: it cannot; the hint says what would mend that.
        """
        del figures
        for module, mend in self.modules.items():
            if find_spec(module) is None:
                raise UnsupportedError(
                    f"a check of kind {self.kind} needs the Python package {module}", hint=mend
                )

    def prepare(self) -> None:
        """Load what measuring takes and note where it begins; called once, before the first probe."""

    def measure(self) -> Reading:
        """Measure once, in the calling thread and its network namespace; must end soon after ``within``.

        Raises:
            Failed: an answer came and it is wrong.
            OSError: none came; ``TimeoutError`` when it did not come in time.
        """
        raise NotImplementedError

    @property
    def executes(self) -> str:
        """A program that this would run, or a file that it would read, which not everybody may ask for."""
        return ""

    def cancel(self) -> None:
        """End what a measurement under way has started; called from another thread, must not block."""

    def probe(self) -> Sample:
        """Measure once and time it; a failure is a sample that is not ``ok``, never an exception."""
        began = now()
        reading, failed = self._try()
        ended = now()
        took = ended - began
        if reading is None:
            latency = took if failed.answered else None
            return Sample(began, ended, False, latency, failed.detail, failed.figures)
        if took > self.within:
            late = f"took {Duration(took)}, over {self.within}"
            return Sample(began, ended, False, took, late, reading.figures)
        return Sample(began, ended, True, took, reading.detail, reading.figures)

    def _try(self) -> tuple[Reading | None, Failed]:
        try:
            return self.measure(), Failed("")
        except Failed as failed:
            return None, failed
        except TimeoutError:
            return None, Failed(f"no answer within {self.within}", answered=True)
        except OSError as error:
            words = error.strerror or str(error) or type(error).__name__
            return None, Failed(f"{error.filename}: {words}" if error.filename else words)


def registry() -> dict[str, type[Check]]:
    """Every kind of check by its word in YAML; imports each file of this package once."""
    package = import_module("chaosd.checks")
    for module in iter_modules(package.__path__):
        import_module(f"chaosd.checks.{module.name}")
    return dict(sorted(_registered(Check).items()))


def _registered(base: type[Check]) -> dict[str, type[Check]]:
    found: dict[str, type[Check]] = {}
    for cls in base.__subclasses__():
        found |= ({cls.kind: cls} if cls.kind else {}) | _registered(cls)
    return found
