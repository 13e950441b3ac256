"""What people see of runs that follow each other, while they do."""

from __future__ import annotations

from chaosd.cli import render
from chaosd.cli.render import Progress
from chaosd.journal import Record
from chaosd.orchestrate.suite import Watcher
from chaosd.report.fold import View
from chaosd.report.render import Skipped
from chaosd.scenario import Scenario


class Live(Watcher):
    """A line when a run begins and when it ends; between them what a single run shows.

    Args:
        total: how many scenarios there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._progress: Progress | None = None

    def begins(self, number: int, scenario: Scenario) -> None:
        """Say which one it is."""
        render.say((f"[{number}/{self._total}] {scenario.name}", "bold"))

    def record(self, record: Record, view: View) -> None:
        """Move the live table on."""
        self._progress = self._progress or Progress(view)
        self._progress.refresh()

    def ended(self, view: View) -> None:
        """Say how it ended."""
        self._close()
        render.verdict(view)

    def skipped(self, skipped: Skipped) -> None:
        """Say why it is not run."""
        self._close()
        render.say("  ", ("skipped", "yellow"), f" {skipped.scenario}: {skipped.reason}")

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        self._progress = None
