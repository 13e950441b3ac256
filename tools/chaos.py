"""Runs scenarios of the library, one after the other, against a demo that it starts; a row for each.

python tools/chaos.py all|CATEGORY|NAME... [--seconds S] [--dry-run] [--results FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from embedded import TRAFFIC, words
from rich.console import Console
from rich.table import Table

from chaosd import demo
from chaosd.demo import Demo, Load, Settings
from chaosd.demo.load import Ask
from chaosd.scenario import Scenario, library, load

GOOD = ("passed", "unsupported", "planned")
_SEED = "12"  # with it even a chance of 5% strikes among the first ten
_AROUND = 6.0  # seconds of a run before and after its fault


def main() -> int:
    """Run what the arguments name; 0 if all passed or are beyond this kernel."""
    args = _arguments()
    console = Console()
    chosen = [load(name, {}) for name in _chosen(args.names)]
    rows = []
    with demo.up(Settings(pool_age=0.1)) as d:
        for number, scenario in enumerate(chosen, start=1):
            console.print(f"[{number}/{len(chosen)}] {scenario.name} ...", end=" ", markup=False)
            rows.append(_plan(scenario, d) if args.dry_run else _run(scenario, d, args.seconds))
            console.print(rows[-1]["verdict"], rows[-1]["reason"], markup=False)
    if args.results:
        Path(args.results).write_text(json.dumps(rows, indent=1), "utf-8")
    console.print(_table(rows))
    counts = Counter(row["verdict"] for row in rows)
    console.print(f"{len(rows)} scenarios: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    return 0 if set(counts) <= set(GOOD) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="+", metavar="all|CATEGORY|NAME")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each fault lasts (4)")
    parser.add_argument("--dry-run", action="store_true", help="only plan; touch nothing")
    parser.add_argument("--results", metavar="FILE", help="also write the rows there, as JSON")
    return parser.parse_args()


def _chosen(names: list[str]) -> list[str]:
    found = []
    for name in names:
        of = [each for each, path in library().items() if name in ("all", each, path.parent.name)]
        if not of:
            sys.exit(f"chaos: {name!r} is no scenario and no category; see: chaosd scenarios")
        found += of
    return sorted(set(found), key=lambda each: (library()[each].parent.name, each))


def _chaosd(scenario: Scenario, d: Demo, *more: str) -> tuple[int, dict[str, Any], str]:
    aimed = words(scenario.name, scenario.category, scenario.parameters, d)
    argv = [sys.executable, "-m", "chaosd", "run", scenario.name, *aimed, "--seed", _SEED, "--json", *more]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        data = json.loads(done.stdout)
    except ValueError:
        data = {}
    return done.returncode, data, data.get("error") or " ".join(done.stderr.split())


def _row(scenario: Scenario, status: int, said: str, good: str) -> dict[str, Any]:
    verdict = {0: good, 2: "refused", 5: "unsupported"}.get(status, "failed")
    return {"scenario": scenario.name, "category": scenario.category, "verdict": verdict, "reason": said}


def _plan(scenario: Scenario, d: Demo) -> dict[str, Any]:
    status, data, said = _chaosd(scenario, d, "--dry-run")
    how = "; ".join(effect for fault in data.get("faults", ()) for effect in fault["effect"])
    return _row(scenario, status, said or how, "planned")


def _run(scenario: Scenario, d: Demo, seconds: float) -> dict[str, Any]:
    clients = threading.Thread(target=_traffic(d, seconds + _AROUND).run, daemon=True)
    clients.start()
    status, view, said = _chaosd(scenario, d, "--duration", f"{seconds:g}s")
    clients.join()
    row = _row(scenario, status, said, "passed")
    if not view.get("verdict"):
        return row
    during = view["stats"].get("during", {}).get("service", {})
    return row | {
        "verdict": view["verdict"],
        "reason": view["reason"],
        "hits": sum(entry["injected"] for entry in view["evidence"]),
        "availability": during.get("availability"),
        "p95": during.get("p95"),
        "recovered_after": view["recovered_after"],
    }


def _traffic(d: Demo, seconds: float) -> Load:
    book = json.dumps({"room": "double", "guest": "Ann"})
    home = d.urls["booking"]
    asks = [
        Ask(home + word.removeprefix("POST "), book if word.startswith("POST ") else "") for word in TRAFFIC
    ]
    return Load(asks, seconds=seconds, rate=12, timeout=2, netns=d.client_netns)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("category", "scenario", "verdict", "hits", "available", "p95", "back after", "why")
    for row in rows:
        table.add_row(
            row["category"],
            row["scenario"],
            row["verdict"],
            _shown(row.get("hits"), "{:d}"),
            _shown(row.get("availability"), "{:.0%}"),
            _shown(row.get("p95"), "{:.3f} s"),
            _shown(row.get("recovered_after"), "{:.1f} s"),
            row["reason"],
        )
    return table


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except demo.DemoError as error:
        sys.exit(f"chaos: {error}")
