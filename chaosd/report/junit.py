"""The report as JUnit's XML, as CI servers read it: one test case for each run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from chaosd.report import lines
from chaosd.report.model import Report, Run, Skipped

FAILURES = ("failed", "aborted", "target-lost", "inconclusive")
"""Verdicts about the system, and of runs that showed nothing: the test case failed."""
SKIPPED = ("unsupported",)
"""Verdicts about this host: the test case is skipped. Whatever else did not pass is an error."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(report: Report) -> str:
    """One suite with a test case for each run and each scenario that was not run."""
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite")
    cases = [_case(suite, run) for run in report.runs] + [_skip(suite, skip) for skip in report.skipped]
    kinds = [child.tag for case in cases for child in case]
    counts = {"tests": len(cases)} | {
        name: kinds.count(kind)
        for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    took = sum(run.took for run in report.runs)
    _set(suites, name="chaosd", time=f"{took:.3f}", **counts)
    _set(suite, name=report.title, time=f"{took:.3f}", **counts)
    if report.runs:
        began = min(run.began for run in report.runs)
        _set(suite, timestamp=datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ET.Element, run: Run) -> ET.Element:
    case = ET.SubElement(suite, "testcase")
    _set(case, name=run.scenario, classname=f"chaosd.{run.category or 'run'}", time=f"{run.took:.3f}")
    properties = ET.SubElement(case, "properties")
    for name, value in _properties(run).items():
        _set(ET.SubElement(properties, "property"), name=name, value=value)
    if run.verdict != "passed":
        kind = "failure" if run.verdict in FAILURES else "skipped" if run.verdict in SKIPPED else "error"
        said = ET.SubElement(case, kind)
        _set(
            said,
            message=f"{run.verdict}: {run.reason}",
            **({} if kind == "skipped" else {"type": run.verdict}),
        )
    ET.SubElement(case, "system-out").text = _clean("\n".join(_told(run)))
    return case


def _skip(suite: ET.Element, skip: Skipped) -> ET.Element:
    case = ET.SubElement(suite, "testcase")
    _set(case, name=skip.scenario, classname="chaosd.run", time="0.000")
    _set(ET.SubElement(case, "skipped"), message=skip.reason)
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
    return [*effects, *measured, *hits, run.restoration.says, f"again: {run.command}"]


def _set(element: ET.Element, **values: Any) -> None:
    for name, value in values.items():
        element.set(name, _clean(str(value)))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)  # what XML 1.0 cannot hold, section 2.2
