"""Whether the demo's booking service copes: each mechanism measured under a fault that calls for it.

python tools/resilience.py                 every mechanism is on, and all must hold
python tools/resilience.py --no-breaker    a switch of the demo; what depends on it is shown to fail
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from chaosd import demo
from chaosd.demo import Demo, Settings
from chaosd.demo.settings import add_arguments, from_arguments
from chaosd.places import run_dir

QUOTE = "/quote?room=double"
MTTR = 120.0
"""Seconds within which the service must be whole again."""
AVAILABLE = 0.95
"""Share of good answers, at least, while the fault is in force."""
_ASKS = 3
_SLACK = 0.05  # seconds that a busy host may add to a wait


@dataclass(frozen=True)
class Finding:
    """One property of a resilient system: whether it holds, what was measured and what was wanted."""

    what: str
    holds: bool
    measured: str
    wanted: str


def verify(d: Demo, settings: Settings, patience: float = MTTR) -> list[Finding]:
    """Put a running demo under an outage, a trickle of failing calls, and a crash.

    Args:
        d: running, with these settings.
        settings: of the demo.
        patience: seconds to wait for recovery after the crash.
    """
    return [*outage(d), retries(d, settings), recovery(d, patience)]


def outage(d: Demo) -> list[Finding]:
    """The pms refuses every connection for five seconds: what callers get, and what the breaker does."""
    began = time.time()
    view = _under("service-unavailable", d, "booking", QUOTE, "5s", "--set", f"port={_port(d)}")
    during = view["stats"]["during"]["service"]
    moves = _settled(d, began)
    failed = 1 - during["availability"]
    used = d.state()["dependencies"]["pms"]["fallbacks"]
    path = [moves[0]["before"], *(move["after"] for move in moves)] if moves else []
    ring = ["closed", "open", "half-open"]
    return [
        Finding(
            "stays available",
            during["availability"] > AVAILABLE,
            f"{during['availability']:.1%}",
            f"over {AVAILABLE:.0%}",
        ),
        Finding("error rate", failed < 1 - AVAILABLE, f"{failed:.1%}", f"under {1 - AVAILABLE:.0%}"),
        Finding("answers from its cache", used > 0, f"{used} answers", "some"),
        Finding(
            "circuit breaker",
            path[:3] == ring and path[-2:] == ["half-open", "closed"],
            " > ".join(path) or "never moved",
            "closed > open > half-open > closed",
        ),
    ]


def retries(d: Demo, settings: Settings) -> Finding:
    """Each of a few calls fails: when the service tried again, by the kernel's record of its connects."""
    for _ in range(settings.breaker_window):
        d.get(QUOTE)  # calls that went well, so that a few that fail do not open the breaker

    def ask() -> None:
        for _ in range(_ASKS):
            time.sleep(0.5)
            d.get(QUOTE)

    view = _under("service-unavailable", d, "booking", "/health", "4s", "--set", f"port={_port(d)}", also=ask)
    times = [hit["t"] for hit in view["hits"]]
    tries = max(len(times) // _ASKS, 1)
    calls = [times[at : at + tries] for at in range(0, len(times), tries)]
    waits = [median(waited) for waited in zip(*map(_between, calls), strict=False)]
    due = [settings.backoff * 2**n for n in range(settings.attempts - 1)]
    on_time = len(waits) == len(due) and all(
        want <= wait < want * (1 + settings.backoff_jitter) + _SLACK
        for wait, want in zip(waits, due, strict=True)
    )
    shown = ", ".join(f"{wait * 1000:.0f}" for wait in waits)
    wanted = ", ".join(f"{want * 1000:.0f}" for want in due)
    return Finding("tries again, waiting longer", on_time, f"{shown or 'no'} ms", f"{wanted} ms, +10%")


def _between(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def recovery(d: Demo, patience: float) -> Finding:
    """The pms is killed: how long from the first call without a live answer until one has it again."""
    gone: list[float] = []
    back: list[float] = []

    def watch() -> None:
        until = time.monotonic() + patience + 5
        while time.monotonic() < until:
            asked = time.monotonic()
            live = d.get(QUOTE)[1].get("source") == "live"
            if not live:
                gone.append(asked)
            elif gone:
                back.append(time.monotonic())
                return
            time.sleep(0.02)

    _under("process-killed", d, "pms", QUOTE, "2s", also=watch)
    live = d.get(QUOTE)[1].get("source") == "live"
    took = back[0] - gone[0] if back else 0.0
    measured = f"{took:.1f} s" if back else "not at all" if gone else "nothing was seen to fail"
    return Finding("time to recovery", live and 0 < took < patience, measured, f"under {patience:.0f} s")


def _under(
    scenario: str,
    d: Demo,
    service: str,
    page: str,
    duration: str,
    *more: str,
    also: Callable[[], None] | None = None,
) -> dict[str, Any]:
    # The view of a run; ``also`` is done as soon as its fault is in force.
    argv = [sys.executable, "-m", "chaosd", "run", scenario, "--target", f"pid:{d.pids[service]}"]
    argv += ["--set", f"url={d.urls['booking']}{page}", "--set", f"from={d.client_netns}"]
    argv += ["--duration", duration, "--json", *more]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    if also and _begun(process):
        also()
    view: dict[str, Any] = json.loads(process.communicate()[0])
    if not view.get("evidence") and not view.get("recovered_after"):
        raise SystemExit(f"resilience: {scenario}: {view.get('error') or view.get('reason')}")
    return view


def _begun(process: subprocess.Popen[str]) -> bool:
    while process.poll() is None:
        if any('"phase":"fault"' in path.read_text("utf-8") for path in run_dir().glob("*.jsonl")):
            return True
        time.sleep(0.02)
    return False


def _settled(d: Demo, began: float) -> list[dict[str, Any]]:
    # The moves of the breaker since then, once calls have closed it again; none if there is no breaker.
    breaker: dict[str, Any] = {}
    for _ in range(100):
        d.get(QUOTE)
        breaker = d.state()["dependencies"]["pms"].get("breaker", {"state": "closed", "transitions": []})
        if breaker["state"] == "closed":
            break
        time.sleep(0.1)
    return [move for move in breaker["transitions"] if move["at"] >= began]


def _port(d: Demo) -> str:
    return d.addresses["pms"].rpartition(":")[2]


def main() -> int:
    """Start a demo with the switches given, verify it, print a row for each property; 0 if all hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    settings = from_arguments(parser.parse_args())
    table = Table("", "property", "measured", "wanted")
    with demo.up(settings) as d:
        findings = verify(d, settings)
    for found in findings:
        table.add_row("ok" if found.holds else "FAILED", found.what, found.measured, found.wanted)
    Console().print(table)
    return 0 if all(found.holds for found in findings) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except demo.DemoError as error:
        sys.exit(f"resilience: {error}")
