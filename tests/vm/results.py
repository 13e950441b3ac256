"""JUnit files of several runs as one table and one closing line: ``results.py FILE...``."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """What became of one test: ``passed``, ``failed`` or ``skipped``, and why."""

    word: str
    why: str = ""


def read(path: Path) -> dict[str, Outcome]:
    """Each test of a JUnit file by name; one that both failed and errored is one failure."""
    found: dict[str, Outcome] = {}
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}".lstrip(":")
        outcome = _outcome(case)
        if name not in found or outcome.word == "failed":
            found[name] = outcome
    return found


def _outcome(case: ET.Element) -> Outcome:
    for kind in ("failure", "error", "skipped"):
        note = case.find(kind)
        if note is not None:
            return Outcome("skipped" if kind == "skipped" else "failed", note.get("message", ""))
    return Outcome("passed")


def table(runs: dict[str, dict[str, Outcome]]) -> str:
    """Tests down, runs across; why a test was skipped or failed stands below, numbered."""
    tests = sorted({name for run in runs.values() for name in run})
    width = max(map(len, tests), default=0)
    notes: dict[str, int] = {}
    lines = [" " * width + "".join(f"  {name:14}" for name in runs)]
    for test in tests:
        cells = (_cell(run.get(test), notes) for run in runs.values())
        lines.append(f"{test:{width}}" + "".join(f"  {cell:14}" for cell in cells))
    lines += [f"[{number}] {why}" for why, number in notes.items()]
    return "\n".join(line.rstrip() for line in lines)


def _cell(outcome: Outcome | None, notes: dict[str, int]) -> str:
    if outcome is None:
        return "-"
    if not outcome.why:
        return outcome.word
    why = outcome.why.strip().partition("\n")[0]
    return f"{outcome.word} [{notes.setdefault(why, len(notes) + 1)}]"


def closing(runs: dict[str, dict[str, Outcome]]) -> str:
    """``N passed, N failed, N skipped`` over all runs."""
    words = Counter(outcome.word for run in runs.values() for outcome in run.values())
    return ", ".join(f"{words[word]} {word}" for word in ("passed", "failed", "skipped"))


def main() -> int:
    """One line for each file, then the closing line of all; 1 when one is missing or not good."""
    missing = [name for name in sys.argv[1:] if not Path(name).exists()]
    runs = {name: read(Path(name)) for name in sys.argv[1:] if name not in missing}
    for name in sys.argv[1:]:
        print(f"{Path(name).stem}: {'no results' if name in missing else closing({name: runs[name]})}")
    print(closing(runs))
    return 0 if good(runs) and not missing else 1


def good(runs: dict[str, dict[str, Outcome]]) -> bool:
    """Whether some test passed in every run and none failed."""
    words = [{outcome.word for outcome in run.values()} for run in runs.values()]
    return bool(words) and all("passed" in run and "failed" not in run for run in words)


if __name__ == "__main__":
    sys.exit(main())
