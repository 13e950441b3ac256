"""The one idea under everything: a change of kernel state that carries its own undo.

An edit is a frozen value. The journal keeps it whole, synced, before ``apply`` is called; the
value alone, read back by another process, is enough to ``revert``.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache, reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal

import msgspec

MARK = "chaosd"
"""What every name chaosd gives to a kernel object starts with; scrubbing looks for nothing else."""


Control = Literal["", "switch", "dial"]
"""Whether the strength of a change that is in force can be set: not, to nothing or all, to anything."""


class Undo(StrEnum):
    """What a revert found."""

    DONE = "undone"
    GONE = "already gone"
    FOREIGN = "no longer ours, left alone"
    NEVER = "cannot be undone"


class Evidence(msgspec.Struct, frozen=True):
    """Events the kernel counted for one edit.

    ``matched`` met the filters; of these ``injected`` got the fault and the rest were
    ``skipped``, by reason (probability, turn, budget, lease). ``unit`` is what was counted.
    ``processes`` are the pids with the most hits, and how many each had, where that is known.
    """

    matched: int = 0
    injected: int = 0
    skipped: dict[str, int] = {}
    unit: str = "packets"
    processes: dict[int, int] = {}


class Hit(msgspec.Struct, frozen=True):
    """One event that got the fault, as the kernel saw it.

    ``t`` is its moment in CLOCK_BOOTTIME seconds; ``pid`` and ``comm`` say whose it was, ``call``
    what was asked for, ``result`` what came of it (the name of an errno, or a delay), ``detail``
    the path or the destination, where there is one.
    """

    t: float
    pid: int
    comm: str
    call: str
    result: str
    detail: str = ""


class Edit(msgspec.Struct, frozen=True, tag_field="kind"):
    """One reversible change of kernel state.

    A subclass names its journal tag (``class Ifb(Edit, frozen=True, tag="tc.ifb")``), its fields
    are the undo record, and ``revert`` stands right below ``apply``.
    """

    irreversible: ClassVar[bool] = False
    slow: ClassVar[bool] = False
    """Whether the kernel may keep its caller waiting for seconds; then a thread applies and reverts it."""

    @property
    def slot(self) -> str:
        """The piece of kernel state this edit owns while open; no two open edits share one."""
        raise NotImplementedError

    def describe(self) -> str:
        """One line for ``chaosd plan``: what will be done, to what."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Begin what takes long, changes nothing, and ends with this process; it may be left out."""

    def ready(self) -> bool:
        """Whether what ``prepare`` began is done; asked again and again while the engine gives its pulse.

        Raises:
            ChaosdError: it cannot be done, and nothing was changed.
        """
        return True

    def apply(self) -> None:
        """Do the deed.

        Raises:
            ForeignStateError: something of somebody else's is in the way; nothing was done.
            ChaosdError: the kernel refused.
        """
        raise NotImplementedError

    def revert(self) -> Undo:
        """Put back what was there; safe to call in any state, any number of times, by anybody.

        Raises:
            OSError, ChaosdError: it could not be put back and must be tried again.
        """
        raise NotImplementedError

    def present(self) -> bool:
        """Read back from the kernel whether the change is there."""
        raise NotImplementedError

    @property
    def control(self) -> Control:
        """What ``scale`` can do."""
        return ""

    @property
    def thins(self) -> bool:
        """Whether ``scale`` can leave out a share of the events."""
        return False

    def scale(self, strength: float, share: float) -> None:
        """Set how strong the change is, at any time from ``prepare`` until ``revert``.

        It stays the same edit, with the same undo.

        Args:
            strength: 0 (no effect) to 1 (as planned).
            share: of the events, packets or flows that may be hit at all, 0 to 1.
        """

    def lost(self) -> str:
        """Why this edit no longer does what it was made for; empty while all is well."""
        return ""

    def renew(self, until: float) -> None:
        """Keep a leased change alive until a moment of CLOCK_BOOTTIME, in seconds."""

    def evidence(self) -> Evidence | None:
        """The kernel's own counts, where it keeps any."""
        return None

    def hits(self) -> list[Hit]:
        """Some of the events since this was last asked for, oldest first, where they are recorded."""
        return []

    @property
    def scope(self) -> str:
        """What ``surroundings`` looks at; edits of one scope give the same answer."""
        return self.slot

    def surroundings(self) -> dict[str, str]:
        """The state around the slot that must read the same before and after, by name.

        Counters and anything else that changes by itself are left out. Empty when it is gone.
        """
        return {}


def kinds(base: type[Edit] = Edit) -> tuple[type[Edit], ...]:
    """Every edit kind that has been imported, in order of definition."""
    found: list[type[Edit]] = []
    for cls in base.__subclasses__():
        found += [cls] if cls.__struct_config__.tag else []
        found += kinds(cls)
    return tuple(found)


@cache
def _union(members: tuple[type[Edit], ...]) -> Any:
    return reduce(or_, members)


def to_data(edit: Edit) -> dict[str, Any]:
    """An edit as plain data for the journal."""
    data: dict[str, Any] = msgspec.to_builtins(edit)
    return data


def from_data(data: dict[str, Any]) -> Edit:
    """The edit that ``to_data`` wrote; imports every kind if its own is not known yet.

    Raises:
        msgspec.ValidationError: no such kind, or its fields have changed since.
    """
    if data.get("kind") not in {kind.__struct_config__.tag for kind in kinds()}:
        package = import_module("chaosd.kernel")
        for module in iter_modules(package.__path__):
            import_module(f"chaosd.kernel.{module.name}")
    edit: Edit = msgspec.convert(data, _union(kinds()))
    return edit
