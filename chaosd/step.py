"""One fault of a scenario, as it is read: what, to whom, from when to when, and on which course."""

from __future__ import annotations

import os
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chaosd import document
from chaosd.document import Problems
from chaosd.faults.base import Fault, find, registry
from chaosd.shape import SHAPES, Shape
from chaosd.units import Duration


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """What every fault takes besides its own fields."""

    target: Annotated[str, Meta(description="its own target, if not that of the scenario")] = ""
    start: Annotated[Duration, Meta(description="how long after the first moment it begins")] = Duration(0)
    lasts: Annotated[Duration, Meta(description="how long it stays; to the end of the run when 0")] = (
        Duration(0)
    )
    shape: Annotated[Any, Meta(description="its course over time, such as {pulse: {on: 2s, off: 3s}}")] = None


class Step(msgspec.Struct, frozen=True):
    """One fault of a scenario, when it is in force, and the word for its own target, if it has one.

    ``start`` is counted from where the faults of the run begin; without ``lasts`` it stays to the end.
    """

    fault: Fault
    target: str = ""
    start: Duration = Duration(0)
    lasts: Duration = Duration(0)
    shape: Shape | None = None


def build(name: str, fields: dict[str, Any], path: document.Path, problems: Problems) -> Step | None:
    """A step from a fault's name and the fields under it, or None when what is wrong was noted.

    Args:
        name: of the fault.
        fields: its own and those of ``Timing``.
        path: where they stand.
        problems: takes every mistake, and tells where the document lies.
    """
    kind = find(name)
    if kind is None:
        problems.add(
            path[:-1], f"unknown fault {name!r}", document.near(name, registry(), "chaosd faults list")
        )
        return None
    timing = {key: fields.pop(key) for key in Timing.__struct_fields__ if key in fields}
    own = document.build(Timing, timing, path, problems)
    fault = document.build(kind, fields, path, problems)
    for problem in fault.check() if fault is not None else ():
        problems.add(path, problem)
    if fault is not None:
        fault = fault.beside(os.path.dirname(problems.name))
    shape = _shape(timing.get("shape"), (*path, "shape"), problems)
    return Step(fault, own.target, own.start, own.lasts, shape) if fault and own else None


def _shape(item: Any, path: document.Path, problems: Problems) -> Shape | None:
    named = document.named(item, path, problems, "shape") if item is not None else None
    if named is None:
        return None
    name, fields = named
    if name not in SHAPES:
        problems.add(path, f"unknown shape {name!r}", document.near(name, SHAPES))
        return None
    shape = document.build(SHAPES[name], fields, (*path, name), problems)
    for problem in shape.check() if shape is not None else ():
        problems.add(path, problem)
    return shape
