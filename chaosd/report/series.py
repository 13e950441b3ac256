"""The samples of a run as columns over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import ceil
from statistics import fmean

from msgspec.structs import replace

from chaosd.report.fold import Point, View
from chaosd.report.model import Series

SHOWN = ("p50", "p95", "availability", "per_second")
"""The figures of a check that are kept over time."""

_Column = list[float | None]
_WORST: dict[str, Callable[[Iterable[float]], float]] = {"p95": max, "availability": min}


def of(view: View) -> Series:
    """All samples; times are seconds since the faults were in force, or else since the run began."""
    origin = view.live or view.started
    points = view.series
    names = dict.fromkeys(name for point in points for name in point.checks)
    counted = dict.fromkeys(name for point in points for name in point.evidence)
    return Series(
        at=[round(point.t - origin, 3) for point in points],
        checks={
            name: {figure: [_figure(p, name, figure) for p in points] for figure in SHOWN} for name in names
        },
        faults={
            name: {kind: _rates(points, name, i) for i, kind in enumerate(("matched", "injected"))}
            for name in counted
        },
        levels=_levels(view),
    )


def _figure(point: Point, name: str, figure: str) -> float | None:
    value: float | None = point.checks.get(name, {}).get(figure)
    return None if value is None else float(f"{value:.5g}")


def _rates(points: Sequence[Point], name: str, index: int) -> _Column:
    rates: _Column = [None]
    for before, after in pairwise(points):
        if name not in after.evidence or after.t <= before.t:
            rates.append(None)
            continue
        more = after.evidence[name][index] - before.evidence.get(name, (0, 0))[index]
        rates.append(round(max(more, 0) / (after.t - before.t), 2))
    return rates[: len(points)]


def _levels(view: View) -> dict[str, _Column]:
    faults = view.plan.get("faults", ())
    columns: dict[str, _Column] = {}
    for i, fault in enumerate(faults):
        column: _Column = [p.levels[i] if i < len(p.levels) else None for p in view.series]
        if len({level for level in column if level}) > 1:  # one that is only there or not says nothing new
            name = fault["fault"] if len(faults) == 1 else f"{i + 1}. {fault['fault']}"
            columns[name] = column
    return columns


def thin(series: Series, most: int) -> Series:
    """Few enough points to draw.

    Neighbors become one, which shows the worst of their p95 and availability and the mean of the rest.
    """
    width = ceil(len(series.at) / most)
    if width <= 1:
        return series

    def table(columns: dict[str, _Column]) -> dict[str, _Column]:
        return {name: _merge(column, width, _WORST.get(name, fmean)) for name, column in columns.items()}

    return replace(
        series,
        at=[time for time in _merge(series.at, width, fmean) if time is not None],
        checks={name: table(columns) for name, columns in series.checks.items()},
        faults={name: table(columns) for name, columns in series.faults.items()},
        levels=table(series.levels),
    )


def _merge(
    column: Sequence[float | None], width: int, into_one: Callable[[Iterable[float]], float]
) -> _Column:
    buckets = ([v for v in column[i : i + width] if v is not None] for i in range(0, len(column), width))
    return [float(f"{into_one(bucket):.6g}") if bucket else None for bucket in buckets]
