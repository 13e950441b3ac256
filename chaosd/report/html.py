"""The report as one HTML page: styles, script and data are in it, and it loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from chaosd import __version__
from chaosd.report import lines, words
from chaosd.report.model import Phase, Report, Run
from chaosd.report.series import thin

POINTS = 600
"""Most points of a plot; half an hour has six times as many, and a plot is about as many pixels wide."""

_HERE = Path(__file__).parent
_TONES = {
    "passed": "good",
    "failed": "bad",
    "aborted": "bad",
    "target-lost": "bad",
    "not-restored": "bad",
    "inconclusive": "warn",
    "interrupted": "warn",
    "killed": "warn",
    "unfinished": "warn",
}


def page(report: Report) -> str:
    """The page for one run, or a summary and each of several runs."""
    verdicts = Counter(run.verdict for run in report.runs)
    if report.skipped:
        verdicts["skipped"] = len(report.skipped)
    kind = "resilience report"
    return fill("report.html", title=report.title, kind=kind, report=report, verdicts=verdicts)


def fill(template: str, **values: Any) -> str:
    """A page from a template; everything in ``values`` is escaped."""
    scripts = [_text("assets/uplot.js"), _text("templates/report.js")]
    # A page shows words that others chose: nothing but these two scripts may run, nothing be loaded.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {' '.join(map(_hash, scripts))}"
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            version=__version__,
            styles=Markup(_text("assets/uplot.css") + _text("templates/report.css")),  # noqa: S704 - our own files
            scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own files
            **values,
        )
    )


@cache
def _text(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": _or_nothing(words.seconds),
        "share": _or_nothing(words.share),
        "rate": _or_nothing(words.rate),
        "count": _or_nothing(words.count),
        "moment": words.moment,
        "points": words.points,
        "tone": lambda verdict: _TONES.get(verdict, "calm"),
        "meaning": _meaning,
        "mechanisms": lines.mechanisms,
        "worst_p95": lines.worst_p95,
        "measured": lines.measured,
        "followed": words.followed,
        "plotted": _plotted,
        "shown_phases": _shown_phases,
    }
    return environment


def _or_nothing(show: Callable[[float | None], str]) -> Callable[[object], str]:
    # a figure that is not there is jinja's undefined
    return lambda value: show(value if isinstance(value, float | int) else None)


def _meaning(run: Run) -> str:
    if run.verdict != "passed":
        return ""
    back = ", and the steady state came back" if any(check.steady for check in run.checks) else ""
    return f"The faults were in force{back}."


def _shown_phases(phases: tuple[Phase, ...]) -> list[Phase]:
    return [phase for phase in phases if phase.ends > phase.begins]


def _plotted(run: Run) -> dict[str, Any]:
    """What the script draws."""
    data = msgspec.to_builtins(thin(run.series, POINTS))
    return {
        "run": run.run,
        "series": data,
        "phases": msgspec.to_builtins(run.phases),
        "thresholds": msgspec.to_builtins(run.thresholds),
    }
