"""Two runs side by side: what one did otherwise than the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import msgspec

from chaosd.report import build, words
from chaosd.report.fold import View
from chaosd.report.model import Run, Series
from chaosd.report.series import thin

Form = Literal["html", "json", "text"]
FORMS: tuple[Form, ...] = get_args(Form)

_WHEN = ("before", "during", "after")
_TIMES, _SHARES, _RATES = ("p50", "p95", "p99"), ("availability",), ("per_second",)
TELLING_TIME = 0.10
"""The share by which a time must differ to be called better or worse; less is how runs differ anyway."""
TELLING_SHARE = 0.01
"""The same of a share of probes."""


class Row(msgspec.Struct, frozen=True):
    """One figure of both runs; ``better`` says whether the run is better than the other, None if neither."""

    about: str
    figure: str
    other: float | None
    run: float | None
    shown: tuple[str, str, str]  # of the other, of the run, and the difference
    better: bool | None = None


class Comparison(msgspec.Struct, frozen=True):
    """A run against another one: both, and a row for each figure that either has."""

    run: Run
    other: Run
    rows: tuple[Row, ...]


def compare(view: View, other: View) -> Comparison:
    """Set a run against another one, which is what it is measured by."""
    one, two = build.run(view), build.run(other)
    return Comparison(one, two, (*_overall(one, two), *_checks(one, two)))


def render(view: View, other: View, form: Form) -> str:
    """The comparison as one HTML page, as JSON, or as text for a terminal."""
    made = compare(view, other)
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(made)).decode() + "\n"
    if form == "text":
        return "\n".join(_text(made)) + "\n"
    from chaosd.report import html

    title = f"{made.run.scenario}: {made.run.run} against {made.other.run}"
    return html.fill("compare.html", title=title, kind="comparison", made=made, plotted=_plotted(made))


def _overall(run: Run, other: Run) -> Iterator[Row]:
    yield _row("", "score", other.score.value, run.score.value)
    yield _row("", "availability", other.availability, run.availability)
    yield _row("", "steady share", other.steady_share, run.steady_share)
    yield _row("", "recovery", other.recovered_after, run.recovered_after)
    yield _row("", "hits", other.hits, run.hits)


def _checks(run: Run, other: Run) -> Iterator[Row]:
    ours, theirs = ({check.name: check for check in which.checks} for which in (run, other))
    for name in dict.fromkeys([*ours, *theirs]):
        for when in _WHEN:
            one, two = (getattr(of[name], when) if name in of else {} for of in (ours, theirs))
            for figure in (*_SHARES, *_TIMES, *_RATES):
                if figure in one or figure in two:
                    yield _row(f"{name} {when}", figure, two.get(figure), one.get(figure))


def _row(about: str, figure: str, other: float | None, run: float | None) -> Row:
    show = _show(figure)
    more = None if run is None or other is None else run - other
    size = "" if more is None else show(abs(more))
    sign = "" if more is None else "±" if size == show(0) else "+" if more > 0 else "-"
    return Row(about, figure, other, run, (show(other), show(run), sign + size), _better(figure, other, run))


def _show(figure: str) -> Any:
    if figure in (*_TIMES, "recovery"):
        return words.seconds
    if figure in (*_SHARES, "steady share"):
        return words.share
    return {"score": words.points, "hits": words.count}.get(figure, words.rate)


def _better(figure: str, other: float | None, run: float | None) -> bool | None:
    if run is None or other is None:
        return None
    if figure in _TIMES or figure == "recovery":
        return run < other if abs(run - other) > TELLING_TIME * max(run, other) else None
    if figure in (*_SHARES, "steady share"):
        return run > other if abs(run - other) > TELLING_SHARE else None
    return None


def _text(made: Comparison) -> Iterator[str]:
    run, other = made.run, made.other
    yield f"{run.scenario} {run.run} ({run.verdict}) against {other.scenario} {other.run} ({other.verdict})"
    table = [("", "", other.run, run.run, "difference")]
    table += [(row.about, row.figure, *row.shown) for row in made.rows]
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    marks = {True: "  better", False: "  worse", None: ""}
    for line, better in zip(table, [None, *(row.better for row in made.rows)], strict=True):
        cells = (
            text.ljust(w) if i < 2 else text.rjust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip() + marks[better]


def _plotted(made: Comparison) -> dict[str, Any]:
    """Both runs on one axis of time, 0 being when the faults came into force."""
    sides = [(made.other.run, thin(made.other.series, 300)), (made.run.run, thin(made.run.series, 300))]
    at = sorted({time for _, series in sides for time in series.at})
    checks = {
        f"{name} {run}": {figure: _spread(series, column, at) for figure, column in columns.items()}
        for run, series in sides
        for name, columns in series.checks.items()
    }
    return {
        "run": made.run.run,
        "span": True,
        "series": {"at": at, "checks": checks, "faults": {}, "levels": {}},
        "phases": msgspec.to_builtins(made.run.phases),
        "thresholds": [],
    }


def _spread(series: Series, column: list[float | None], at: list[float]) -> list[float | None]:
    known = dict(zip(series.at, column, strict=True))
    return [known.get(time) for time in at]
