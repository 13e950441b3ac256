"""Runs scenarios of the library as one suite against a demo that it starts.

python tools/chaos.py all|CATEGORY|NAME... [--seconds S] [--dry-run] [--slow] [--report DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from embedded import FOLDER, SEED, busy, chaosd, fields, write

from chaosd.demo import Demo, DemoError, Settings
from chaosd.errors import ChaosdError
from chaosd.orchestrate import entry
from chaosd.scenario import Scenario, library, load

_PAUSE = "2s"  # in which the demo's breaker closes again
_USUAL: tuple[Settings, float, tuple[str, ...]] = Settings(pool_age=0.1), 12, ()
_SLOW = (
    Settings(pool_age=0.1, pms_timeout=3, database_timeout=10, pool_timeout=10, names_timeout=3),
    1,
    ("--set", "within=20s"),
)
"""The demo, how many requests a second it gets from clients, and what is said of checks."""


def main() -> int:
    """Run what the arguments name; the exit status of the suite."""
    args = _arguments()
    chosen = _chosen(args.names)
    settings, rate, more = _SLOW if args.slow else _USUAL
    with busy(settings, rate) as d:
        file = write(args.report / "suite.yaml", _suite(" ".join(args.names), chosen, d))
        if args.dry_run:
            return chaosd("suite", file, "--dry-run")
        words = ("--duration", f"{args.seconds:g}s", "--report", str(args.report), *more)
        status = chaosd("suite", file, *words)
    sys.stdout.write(f"report: {args.report / 'report.html'}\n")
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="all|CATEGORY|NAME")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each fault lasts (4)")
    parser.add_argument("--dry-run", action="store_true", help="only plan; touch nothing")
    parser.add_argument("--slow", action="store_true", help="few clients and much patience: it is emulated")
    parser.add_argument("--report", type=Path, default=FOLDER, help="where to (build/chaos)")
    return parser.parse_args()


def _chosen(names: list[str]) -> list[Scenario]:
    words = [each for name in names for each in ([name] if name in library() else _category(name))]
    found = [load(name, {}) for name in dict.fromkeys(words)]
    if left := [each.name for each in found if _of_containers(each)]:
        sys.stdout.write(f"not on this demo, which has no containers: {', '.join(left)}\n")
    fit = [each for each in found if not _of_containers(each)]
    return sorted(fit, key=lambda each: (_deadly(each), each.category, each.name))


def _category(name: str) -> list[str]:
    return [each.scenario for each in entry.of_category(name)]


def _of_containers(scenario: Scenario) -> bool:
    return any(step.fault.name.startswith("container.") for step in scenario.faults)


def _deadly(scenario: Scenario) -> bool:
    """Those come last: what is started again has another pid than the one that the suite names."""
    return any(step.fault.irreversible for step in scenario.faults)


def _suite(name: str, chosen: list[Scenario], d: Demo) -> dict[str, Any]:
    aimed = {each.name: fields(each.name, each.category, each.parameters, d) for each in chosen}
    entries = [{scenario: aimed[scenario] | {"seed": SEED}} for scenario in aimed]
    return {"name": f"Embedded: {name}", "pause": _PAUSE, "scenarios": entries}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DemoError, ChaosdError) as error:
        sys.exit(f"chaos: {error}")
