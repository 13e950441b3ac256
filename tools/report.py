"""Renders the report of the last suite of a make target, or of the last run if that was another one."""

from __future__ import annotations

import json
import sys

from embedded import FOLDER

from chaosd.errors import ChaosdError
from chaosd.report import store
from chaosd.report.render import Form, Skipped, render

_FILES: dict[str, Form] = {
    "report.html": "html",
    "report.json": "json",
    "junit.xml": "junit",
    "summary.md": "markdown",
}


def main() -> int:
    """Write every form of it to the folder of make targets, and say where."""
    newest = store.find(None)
    title, runs, skipped = "", [newest.stem], []
    result = FOLDER / "result.json"
    if result.exists():
        suite = json.loads(result.read_text("utf-8"))
        ids = [run["run"] for run in suite["runs"] if run["run"]]
        if newest.stem in ids:
            title, runs = suite["suite"], ids
            skipped = [Skipped(**each) for each in suite["skipped"]]
    views = [store.load(store.find(run)) for run in runs]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, form in _FILES.items():
        (FOLDER / name).write_text(render(views, form, title=title, skipped=skipped), "utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ChaosdError as error:
        sys.exit(f"report: {error}")
