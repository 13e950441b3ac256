"""Journals of runs that never were, for what is made from journals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaosd.journal import Record
from chaosd.report.fold import View, fold

LIMIT = "api.p95 > 800ms for 10s"


def stats(p50: float | None = 0.002, ok: int = 20, count: int = 20) -> dict[str, Any]:
    """The figures of one check as the engine writes them."""
    share = ok / count if count else None
    return {
        "count": count,
        "ok": ok,
        "failed": count - ok,
        "per_second": 10.0,
        "error_rate": None if share is None else 1 - share,
        "availability": share,
        "p50": p50,
        "p95": None if p50 is None else p50 * 1.5,
        "p99": None if p50 is None else p50 * 2,
        "max": None if p50 is None else p50 * 3,
        "value": None,
        "detail": "status 200",
        "failure": "status 500" if ok < count else "",
    }


def plan(**changes: Any) -> dict[str, Any]:
    """What the header of a journal says of one delay on one container."""
    fault = {
        "fault": "network.delay",
        "fields": {"delay": "200ms", "ports": "[80, 443]"},
        "target": "container:api",
        "mechanism": "netem",
        "irreversible": False,
        "edits": ["add ifb"],
        "effect": ["one round trip: 200ms longer"],
    }
    return {
        "run": "aa11bb",
        "seed": 7,
        "scenario": "network-latency",
        "category": "network",
        "description": "Slow answers.",
        "parameters": {"url": "http://127.0.0.1/a b"},
        "duration": 10.0,
        "radius": "single-service",
        "faults": [fault],
        "steady_state": {"api": "GET / gives 200"},
        "abort_when": [LIMIT, "error_rate > 50%"],
    } | changes


class Tape:
    """Writes records, each at a time of its own; ``t`` is CLOCK_BOOTTIME seconds, from 100."""

    def __init__(self) -> None:
        self.t, self.records, self.matched = 100.0, list[Record](), 0

    def write(self, kind: str, **fields: Any) -> None:
        self.records.append({"type": kind, "at": 1.7e9 + self.t - 100, "t": self.t, **fields})

    def samples(self, seconds: float, figures: dict[str, Any], *, hit: int | None = None) -> None:
        """Two a second; ``hit`` events matched between two of them, of which two were spared in all."""
        for _ in range(round(seconds * 2)):
            self.t += 0.5
            self.matched += hit or 0
            evidence = {
                "fault": "network.delay",
                "target": "container:api",
                "unit": "packets",
                "matched": self.matched,
                "injected": max(self.matched - 2, 0),
                "skipped": {"probability": 2, "budget": 0},
                "processes": {"12": self.matched},
            }
            seen = {"fault": "network.delay", "t": self.t, "pid": 12, "comm": "api", "call": "sendto"}
            hits = [seen | {"result": "200ms", "detail": "127.0.0.1:80"}] if hit else []
            counted = [] if hit is None else [evidence]
            self.write("sample", checks={"api": figures}, evidence=counted, hits=hits)


def tape(
    *,
    name: str = "network-latency",
    run: str = "aa11bb",
    verdict: str = "passed",
    reason: str = "",
    lasted: float = 10.0,
    during: dict[str, Any] | None = None,
    recovered: float | None = 0.2,
    after: bool = True,
    **changes: Any,
) -> Tape:
    """A run with its phases; ``changes`` are of its plan."""
    tape, calm, during = Tape(), stats(), during or stats(0.2)
    made = plan(scenario=name, run=run, **changes)
    tape.write("run", run=run, scenario=name, process={"pid": 1, "start_time": 1}, plan=made)
    tape.write("phase", phase="baseline")
    tape.samples(2, calm)
    tape.write("stats", when="before", checks={"api": calm})
    tape.write("phase", phase="inject")
    tape.write("intend", n=0, edit={}, says="add ifb")
    tape.write("applied", n=0)
    tape.write("phase", phase="fault", ends=tape.t + 10)
    tape.samples(lasted, during, hit=10)
    tape.write("stats", when="during", checks={"api": during})
    tape.write("phase", phase="revert")
    tape.write("reverted", n=0, undo="undone")
    tape.write("restored", took=0.1, compared=10, differs=[], stuck=[])
    if after:
        tape.write("phase", phase="recover")
        tape.samples(2, calm)
        tape.write("stats", when="after", checks={"api": calm})
    if recovered is not None:
        tape.write("recovered", took=recovered)
    tape.write("end", verdict=verdict, reason=reason)
    return tape


def told(**words: Any) -> View:
    """The state after such a run."""
    return fold(tape(**words).records)


def cut(when: Callable[[Record], bool], **words: Any) -> View:
    """The state of such a run whose journal ends before the first record of which ``when`` holds."""
    records = tape(**words).records
    return fold(records[: next(i for i, record in enumerate(records) if when(record))])
