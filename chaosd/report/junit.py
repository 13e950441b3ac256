"""The report as JUnit's XML, as CI servers read it: one test case for each run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from chaosd.report import lines, words
from chaosd.report.model import Report, Run

FAILURES = ("failed", "aborted", "target-lost", "inconclusive")
"""Verdicts about the system, and of runs that showed nothing: the test case failed."""
SKIPPED = ("unsupported",)
"""Verdicts about this host: the test case is skipped. Whatever else did not pass is an error."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(report: Report) -> str:
    """A suite with one test case for each run and for each scenario that was not run.

    The figures of a run are properties of its suite: those of a test case are not in every schema.
    """
    root = ET.Element("testsuites")
    for run in report.runs:
        _run(root, run)
    for skip in report.skipped:
        case = _suite(root, skip.scenario, "chaosd.run", 0.0, skipped=1)
        _set(ET.SubElement(case, "skipped"), message=skip.reason)
    counts = {
        name: sum(int(suite.get(name, 0)) for suite in root) for name in ("tests", "failures", "errors")
    }
    _set(root, name=report.title, time=f"{sum(run.took for run in report.runs):.3f}", **counts)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _run(root: ET.Element, run: Run) -> None:
    kind = _kind(run.verdict)
    counted = {"failure": "failures", "error": "errors", "skipped": "skipped"}
    case = _suite(
        root,
        run.scenario,
        f"chaosd.{run.category or 'run'}",
        run.took,
        **({counted[kind]: 1} if kind else {}),
    )
    if kind:
        said = ET.SubElement(case, kind)
        _set(said, type=run.verdict, message=f"{run.verdict}: {run.reason}")
    ET.SubElement(case, "system-out").text = _clean("\n".join(_told(run)))
    properties = ET.Element("properties")
    for name, value in _properties(run).items():
        _set(ET.SubElement(properties, "property"), name=name, value=value)
    root[-1].insert(0, properties)
    _set(root[-1], timestamp=datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%dT%H:%M:%S"))


def _kind(verdict: str) -> str:
    if verdict == "passed":
        return ""
    return "failure" if verdict in FAILURES else "skipped" if verdict in SKIPPED else "error"


def _suite(root: ET.Element, name: str, classname: str, took: float, **counts: int) -> ET.Element:
    suite = ET.SubElement(root, "testsuite")
    _set(
        suite,
        name=name,
        time=f"{took:.3f}",
        **{"tests": 1, "failures": 0, "errors": 0, "skipped": 0} | counts,
    )
    case = ET.SubElement(suite, "testcase")
    _set(case, name=name, classname=classname, time=f"{took:.3f}")
    return case


def _properties(run: Run) -> dict[str, Any]:
    """Figures for graphs over builds; those that there are not are left out."""
    found = {
        "run": run.run,
        "seed": run.seed,
        "verdict": run.verdict,
        "score": run.score.value,
        "availability": run.availability,
        "steady_share": run.steady_share,
        "recovered_after": run.recovered_after,
        "hits": run.hits,
    }
    for check in run.checks:
        for when in ("before", "during", "after"):
            figures = getattr(check, when)
            found |= {
                f"{check.name}.{when}.{key}": figures.get(key) for key in ("p50", "p95", "availability")
            }
    return {
        name: f"{value:.6g}" if isinstance(value, float) else value
        for name, value in found.items()
        if value is not None
    }


def _told(run: Run) -> list[str]:
    effects = [f"configured: {line}" for fault in run.faults for line in fault.effect]
    measured = [f"measured: {line}" for line in lines.measured(run)]
    hits = [f"hit: {e.fault} on {e.target}: {e.injected} of {e.matched} {e.unit}" for e in run.evidence]
    expected = [f"expected: {line}" for line in lines.expected(run)]
    followed = words.followed(run.followed)
    return [*effects, *measured, *expected, *hits, *followed, run.restoration.says, f"again: {run.command}"]


def _set(element: ET.Element, **values: Any) -> None:
    for name, value in values.items():
        element.set(name, _clean(str(value)))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)  # what XML 1.0 cannot hold, section 2.2
