"""The one way to a report: the states of runs in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from chaosd.report import build
from chaosd.report.fold import View
from chaosd.report.model import Skipped

__all__ = ["FORMS", "Form", "Skipped", "render"]

Form = Literal["html", "json", "junit", "markdown"]
FORMS: tuple[Form, ...] = get_args(Form)


def render(views: Sequence[View], form: Form, *, title: str = "", skipped: Sequence[Skipped] = ()) -> str:
    """A report of one or several runs.

    Args:
        views: the runs, in the order in which they are to stand.
        form: one page of HTML that loads nothing; JSON (docs/report.schema.json); JUnit's XML; or
            Markdown, short, for the summary of a CI job.
        title: what it is called; the scenario's name, or how many runs there are, if empty.
        skipped: scenarios that were not run, and why.
    """
    report = build.report(views, title, skipped)
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"
    if form == "html":
        from chaosd.report import html

        return html.page(report)
    if form == "junit":
        from chaosd.report import junit

        return junit.document(report)
    from chaosd.report import markdown

    return markdown.text(report)
