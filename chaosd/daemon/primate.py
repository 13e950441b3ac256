"""The monkey in the daemon: its ticks, each dealt with by a child, told to whoever listens."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from chaosd.daemon.runs import Runs
from chaosd.errors import ChaosdError
from chaosd.orchestrate import monkey as choices
from chaosd.orchestrate import state
from chaosd.places import state_dir

_LOOK = 60.0


class Primate:
    """A monkey by its configuration, which is read anew at each tick.

    Args:
        place: the file of its configuration.
        runs: deals with ticks.

    Raises:
        ChaosdError: what is wrong in the configuration, or another process does this already.
    """

    def __init__(self, place: Path, runs: Runs) -> None:
        self._place, self._runs = place, runs
        self._mark = state_dir() / "monkey" / f"{place.stem}.paused"
        self._config = choices.load(place)
        self._tick = self._config.tick(time.time()) + 1
        self._last: dict[str, Any] | None = None
        self._held = state.hold(f"monkey-{place.stem}")

    async def run(self) -> None:
        """Deal with one tick after the other, for ever; those that pass during a run are let go."""
        while True:
            until = self._config.begins(self._tick) - time.time()
            if until > 0:
                await asyncio.sleep(min(until, _LOOK))
                continue
            now = self._config.tick(time.time())
            if not self.paused():
                await self._deal(now)
            self._tick = max(self._config.tick(time.time()), now) + 1

    async def _deal(self, tick: int) -> None:
        try:
            self._config = await asyncio.to_thread(choices.load, self._place)
        except ChaosdError as error:
            self._runs.feed.add({"type": "monkey", "why_not": str(error)})
            return
        async for record in self._runs.attend("tick", config=str(self._place), tick=tick):
            if record["type"] == "monkey":
                self._last = record

    def paused(self) -> bool:
        """Whether it rests."""
        return self._mark.exists()

    def pause(self) -> None:
        """Let it rest; a run that goes on does."""
        state.write(self._mark, b"")

    def resume(self) -> None:
        """Let it act again."""
        self._mark.unlink(missing_ok=True)

    def row(self) -> dict[str, Any]:
        """How it stands."""
        at = self._config.timezone.local(self._config.begins(self._tick))
        return {
            "name": self._place.stem,
            "paused": self.paused(),
            "next": at.isoformat(timespec="seconds"),
            "last": self._last,
        }

    def close(self) -> None:
        """Let another one do it."""
        os.close(self._held)
