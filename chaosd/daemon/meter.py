"""What the daemon knows of runs, schedules and the monkey, as metrics."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from chaosd.daemon.calendar import Calendar
from chaosd.daemon.primate import Primate
from chaosd.daemon.runs import Runs
from chaosd.daemon.tape import Record
from chaosd.daemon.webhook import Webhook
from chaosd.errors import ChaosdError
from chaosd.metrics import seen
from chaosd.metrics.seen import Seen

if TYPE_CHECKING:
    from chaosd.metrics.exporter import Exporter


class Meter:
    """Looks at the journals of this host when it is asked, so that runs of everybody count.

    What was closed before is not counted. Journals are read by a child of the zygote.

    Args:
        runs: those of the daemon, and what it tells of.
        calendar: its schedules.
        monkey: its monkey, if any.
        webhook: where it posts events, if anywhere.
    """

    def __init__(
        self, runs: Runs, calendar: Calendar, monkey: Primate | None, webhook: Webhook | None
    ) -> None:
        self._runs, self._calendar, self._monkey, self._webhook = runs, calendar, monkey, webhook
        self._known = seen.journals()[1]
        self._posted: dict[str, int] = {}
        self._looking = asyncio.Lock()

    @cached_property
    def _exporter(self) -> Exporter:
        from chaosd.metrics.exporter import Exporter  # with what it imports it takes 3 MiB

        return Exporter()

    async def run(self) -> None:
        """Count what is told of schedules and of the monkey, to the end."""
        async for record in self._runs.feed.follow():
            self._note(record)

    def _note(self, record: Record) -> None:
        if record["type"] == "schedule" and "schedule" in record:
            name, outcome = record["schedule"], record["outcome"]
            if outcome == "begun":
                return
            self._exporter.count("chaos_schedule_runs_total", name, outcome)
            self._exporter.newest("chaos_schedule_passed", name, float(outcome == "passed"))
        elif record["type"] == "monkey":
            does = "acts" if record.get("scenario") else "rests"
            self._exporter.count("chaos_monkey_decisions_total", does)
        elif record["type"] == "refused":
            self._exporter.count("chaos_monkey_decisions_total", "refused")

    async def text(self, accepts: str) -> tuple[bytes, str]:
        """Everything as of now, and its media type, for a client that accepts these."""
        async with self._looking:
            with suppress(ChaosdError):  # without the zygote, what is known already has to do
                self._exporter.take(await self._look())
            self._levels()
            return self._exporter.text(accepts)

    async def _look(self) -> list[Seen]:
        live, closed = seen.journals()
        closed -= self._known
        ours = [seen.of(run.view) for name, run in self._runs.live.items() if name not in closed]
        others = closed | live - {each.run for each in ours}
        told = await self._runs.ask("seen", runs=sorted(others)) if others else []
        found = msgspec.convert(told, list[Seen])
        self._known |= closed | {each.run for each in found if each.closed}
        return [*ours, *found]

    def _levels(self) -> None:
        exporter = self._exporter
        exporter.level("chaos_schedule_problems", {(): len(self._calendar.problems)})
        exporter.level("chaos_monkey_paused", {(): self._monkey is not None and self._monkey.paused()})
        if self._webhook is not None:
            for outcome, count in self._webhook.outcomes.copy().items():
                exporter.count("chaos_webhook_events_total", outcome, by=count - self._posted.get(outcome, 0))
                self._posted[outcome] = count
            exporter.level("chaos_webhook_queued", {(): self._webhook.queued})
