"""What a check is: typed fields and one measurement."""

from __future__ import annotations

import time
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, ClassVar

import msgspec

from chaosd.units import Duration

PerSecond = Annotated[float, msgspec.Meta(gt=0, le=100, description="probes a second while the run lasts")]


def now() -> float:
    """CLOCK_BOOTTIME in seconds, the clock of every time in this package."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Failed(Exception):  # noqa: N818 - what a measurement found, not a fault of the program
    """The measured thing is not as it should be.

    Args:
        detail: a few words: what came instead.
        answered: true when something answered, so that the time it took is a latency.
    """

    def __init__(self, detail: str, *, answered: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.answered = answered


class Reading(msgspec.Struct, frozen=True):
    """A good answer: a few words about it, and a number where the kind measures one."""

    detail: str
    value: float | None = None


class Sample(msgspec.Struct, frozen=True):
    """One probe. ``began`` and ``ended`` are seconds of ``now()``.

    ``latency`` is in seconds: the time to an answer, good or bad, or the time waited in vain (so
    at least that long); None when there was nothing to time, such as a refused connection.
    """

    began: float
    ended: float
    ok: bool
    latency: float | None
    detail: str
    value: float | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of measurement; its fields are the YAML keys, the validation and the help.

    A subclass sets ``kind`` and writes ``measure`` and ``describe``; a new kind is one file here.
    ``netns`` is ``target``, the name of a network namespace, or empty for the caller's own.
    """

    kind: ClassVar[str] = ""

    within: Annotated[Duration, msgspec.Meta(description="longest time it may take")] = Duration(1)
    rate: PerSecond = 1.0
    netns: Annotated[str, msgspec.Meta(description="where to measure: target, or a name")] = ""

    def describe(self) -> str:
        """One line for ``chaosd plan``: what must hold."""
        raise NotImplementedError

    def measure(self) -> Reading:
        """Measure once, in the calling thread and its network namespace; must end soon after ``within``.

        Raises:
            Failed: an answer came and it is wrong.
            OSError: none came; ``TimeoutError`` when it did not come in time.
        """
        raise NotImplementedError

    @property
    def executes(self) -> str:
        """A program of the user's that this would run, which not everybody may ask for."""
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
            return Sample(began, ended, False, took if failed.answered else None, failed.detail)
        if took > self.within:
            return Sample(began, ended, False, took, f"took {Duration(took)}, over {self.within}")
        return Sample(began, ended, True, took, reading.detail, reading.value)

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
