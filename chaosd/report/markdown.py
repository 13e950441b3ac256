"""The report as Markdown: short, for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chaosd.report import lines, words
from chaosd.report.model import Report, Run

_MARKS = {"passed": "✅", "inconclusive": "⚠️", "unsupported": "⏭️", "interrupted": "⚠️"}
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def text(report: Report) -> str:
    """A table with a row for each run, what went wrong, and the figures if it is one run alone."""
    return "\n".join([f"## {_plain(report.title)}", "", *_summary(report), *_details(report)]) + "\n"


def _summary(report: Report) -> Iterator[str]:
    yield "| scenario | verdict | score | available | p95 during | recovered in | hits | mechanism |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for run in report.runs:
        yield f"| {' | '.join(_row(run))} |"
    for skip in report.skipped:
        yield f"| {_plain(skip.scenario)} | ⏭️ skipped | | | | | | |"
    yield ""
    cover = report.score
    if cover.value is not None and len(report.runs) > 1:
        tried = ", ".join(f"{name} {words.points(value)}" for name, value in cover.families.items())
        yield f"Resilience score **{words.points(cover.value)}** of 100: {tried}."
        rest = ", ".join(cover.untried) or "nothing"
        yield f"{cover.scored} of {cover.runs} runs scored; not tried: {rest}."
        yield ""


def _row(run: Run) -> list[str]:
    return [
        _plain(run.scenario),
        f"{_MARKS.get(run.verdict, '❌')} {run.verdict}",
        words.points(run.score.value),
        words.share(run.availability),
        words.seconds(lines.worst_p95(run)),
        words.seconds(run.recovered_after),
        words.count(run.hits),
        _plain(lines.mechanisms(run)),
    ]


def _details(report: Report) -> Iterator[str]:
    for run in report.runs:
        if run.reason:
            yield f"- **{_plain(run.scenario)}** {run.verdict}: {_plain(run.reason)}"
        if not run.restoration.restored or run.restoration.differs:
            yield f"- **{_plain(run.scenario)}**: {_plain(run.restoration.says)}"
    for skip in report.skipped:
        yield f"- **{_plain(skip.scenario)}** skipped: {_plain(skip.reason)}"
    if len(report.runs) == 1:
        yield from _figures(report.runs[0])


def _figures(run: Run) -> Iterator[str]:
    yield from [""] if run.reason else []
    yield "| check | | good | p50 | p95 | p99 | rate |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for check in run.checks:
        for when in ("before", "during", "after"):
            figures = getattr(check, when)
            times = (words.seconds(figures.get(key)) for key in ("p50", "p95", "p99"))
            cells = [words.share(figures.get("availability")), *times, words.rate(figures.get("per_second"))]
            yield f"| {_plain(check.name)} | {when} | {' | '.join(cells)} |"
    yield ""
    yield from (f"- measured: {_plain(line)}" for line in lines.measured(run))
    yield from (f"- expected: {_plain(line)}" for line in lines.expected(run))
    yield from (
        f"- {entry.fault} hit {entry.injected:,} of {entry.matched:,} {entry.unit}" for entry in run.evidence
    )
    yield from (f"- {_plain(line)}" for line in words.followed(run.followed))
    yield f"- {_plain(run.restoration.says)}"
    yield f"- run {run.run}, again: {_code(run.command)}"


def _plain(words_of_others: str) -> str:
    """Text in which nothing is markup, on one line."""
    line = " ".join(words_of_others.split())
    return _SPECIAL.sub(r"\\\1", "".join(_ENTITIES.get(char, char) for char in line))


def _code(command: str) -> str:
    ticks = "`" * (1 + max((len(found) for found in re.findall("`+", command)), default=0))
    line = " ".join(command.split())
    return f"{ticks} {line} {ticks}" if len(ticks) > 1 else f"`{line}`"
