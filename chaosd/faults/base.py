"""What a fault is: typed fields, a ladder of mechanisms, and a pure plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar, Self

import msgspec

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import launch
from chaosd.kernel.capability import Capability
from chaosd.kernel.edit import Edit
from chaosd.shape import Shape
from chaosd.targets.model import Target


class Mechanism(msgspec.Struct, frozen=True):
    """One way to do a fault; it can be used where every one of ``needs`` holds.

    With ``launched`` it is for programs alone that chaosd starts itself.
    """

    name: str
    needs: tuple[Capability, ...] = ()
    note: str = ""
    launched: bool = False

    def out_of_place(self) -> list[str]:
        """Why it cannot be used on what is aimed at, whatever this host can."""
        here = not self.launched or launch.current() is not None
        return [] if here else ["only of a program that it starts itself (chaosd exec)"]

    def missing(self, *, anew: bool = False) -> list[str]:
        """Why it cannot be used here, one line for each capability that is missing.

        With ``anew`` everything is tried now, whatever was proven before.
        """
        verdicts = ((need.name, need.attempt() if anew else need()) for need in self.needs)
        return [
            f"{name}: {verdict.reason}" + (f"; {verdict.mend}" if verdict.mend else "")
            for name, verdict in verdicts
            if not verdict.ok
        ]


class Planning(msgspec.Struct, frozen=True):
    """What a plan may depend on besides the fault and its target.

    ``run`` is six hexadecimal digits, unique on this host; ``index`` numbers the fault within the
    run (0 to 63); both go into the names of what is made. ``seed`` drives every random choice.
    ``duration`` is how long the fault lasts, in seconds. ``operator`` holds the addresses of the
    connections the operator is logged in by, which are left alone unless a fault asks for them; it is
    empty where no target is all traffic of its interfaces.
    """

    run: str
    index: int
    seed: int
    mechanism: str
    duration: float
    operator: tuple[str, ...] = ()


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of fault; its fields are the YAML keys, the validation, the help and the docs page.

    A subclass sets ``name`` and ``mechanisms`` (best first) and writes ``plan``. Field help stands
    in ``Annotated[Duration, msgspec.Meta(description="...")]``.
    """

    name: ClassVar[str] = ""
    mechanisms: ClassVar[tuple[Mechanism, ...]] = (Mechanism("kernel"),)
    takes: ClassVar[str] = "processes"  # or "traffic": which targets make sense
    irreversible: ClassVar[bool] = False
    ends_target: ClassVar[bool] = False  # on purpose: a target that is gone afterwards is not lost
    combines: ClassVar[bool] = False  # mechanisms are chosen for each part of what is asked, not once for all

    mechanism: str = ""

    def check(self) -> list[str]:
        """What is wrong with the fields taken together, one line each."""
        return []

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """The edits that make this fault, in order; reads, never writes.

        Raises:
            ChaosdError: the target cannot take this fault.
        """
        raise NotImplementedError

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What a user will see, in words, for the plan (a round trip, a first request)."""
        return []

    def beside(self, folder: str) -> Self:
        """The same, with relative paths of files that it reads taken from the folder of its scenario."""
        return self

    @property
    def shape(self) -> Shape | None:
        """The course over time that belongs to the fault itself, unless its step says another."""
        return None

    @property
    def executes(self) -> str:
        """A program of the user's that this would compile or run, which not everybody may ask for."""
        return ""

    def choose(self) -> Mechanism:
        """The best mechanism this host has, or the one that was forced.

        Raises:
            UnsupportedError: none works here; the reasons say why.
        """
        ladder = [m for m in self.mechanisms if self.mechanism in ("", m.name)]
        if not ladder:
            known = ", ".join(m.name for m in self.mechanisms)
            raise ChaosdError(f"{self.name} has no mechanism {self.mechanism!r}", hint=f"one of {known}")
        missing = {}
        for mechanism in ladder:
            if not (why := mechanism.out_of_place() or mechanism.missing()):
                return mechanism
            missing[mechanism.name] = why
        reasons = "; ".join(f"by {name}, {', '.join(why)}" for name, why in missing.items())
        raise UnsupportedError(f"this host cannot do {self.name}: {reasons}", hint="see: chaosd doctor")


def find(name: str) -> type[Fault] | None:
    """The fault of a name, importing its file alone; None when there is none of that name."""
    if name.replace(".", "").replace("_", "").isalnum():
        with suppress(ModuleNotFoundError):
            import_module(f"chaosd.faults.{name.replace('.', '_')}")
    return next((kind for kind in _registered(Fault) if kind.name == name), None)


def registry() -> dict[str, type[Fault]]:
    """Every fault by name; imports each file of this package once."""
    package = import_module("chaosd.faults")
    for module in iter_modules(package.__path__):
        if module.name != "base":
            import_module(f"chaosd.faults.{module.name}")
    return dict(sorted({kind.name: kind for kind in _registered(Fault)}.items()))


def _registered(base: type[Fault]) -> Iterator[type[Fault]]:
    for kind in base.__subclasses__():
        if kind.name:
            yield kind
        yield from _registered(kind)
