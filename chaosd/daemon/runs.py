"""The runs of the daemon: ordered from the zygote, followed as they go, and told to whoever asks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from chaosd.daemon.zygote import Zygote
from chaosd.errors import ChaosdError, Exit
from chaosd.report.fold import View

Record = dict[str, Any]


class Story:
    """What a child of the zygote has told so far, and tells on.

    ``records`` are all of them; ``view`` is their fold where they are a run's.
    """

    def __init__(self, pid: int) -> None:
        self.view = View()
        self.records: list[Record] = []
        self.ended = False
        self._pidfd = os.pidfd_open(pid)
        self._news = asyncio.Condition()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take what is told until the child ends."""
        try:
            async for line in reader:
                record = json.loads(line)
                self.view.add(record)
                await self._tell(record)
        finally:
            os.close(self._pidfd)
            self.ended = True
            async with self._news:
                self._news.notify_all()

    async def _tell(self, record: Record) -> None:
        async with self._news:
            self.records.append(record)
            self._news.notify_all()

    async def follow(self, first: int = 0) -> AsyncIterator[Record]:
        """Every record from number ``first`` on, those to come included, until the child has ended."""
        at = first
        while True:
            while at < len(self.records):
                at += 1
                yield self.records[at - 1]
            if self.ended:
                return
            async with self._news:
                while not self.ended and at == len(self.records):
                    await self._news.wait()

    def stop(self) -> None:
        """Ask the child to end; a run puts everything back."""
        if not self.ended:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)


class Runs:
    """Everything that has been ordered and not yet been forgotten.

    Args:
        zygote: where children come from.
    """

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._tasks: set[asyncio.Task[None]] = set()
        self.live: dict[str, Story] = {}

    async def _begin(self, deed: str, **order: Any) -> Story:
        pid, end = self._zygote.order(deed, **order)
        story = Story(pid)
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=1 << 24)
        task = asyncio.create_task(self._listen(story, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return story

    async def _listen(self, story: Story, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await story.listen(reader)
        finally:
            writer.close()
            self.live.pop(story.view.run, None)

    async def ask(self, deed: str, **order: Any) -> Record:
        """The one record that a child answers with.

        Raises:
            ChaosdError: as the child has it.
        """
        story = await self._begin(deed, **order)
        async for record in story.follow():
            return _unless_error(record)
        raise ChaosdError(f"the process that was to {deed} died without a word", hint="see the log")

    async def start(self, *, text: str, name: str, overrides: Record, confirmed: bool) -> Story:
        """Start a run; returns once it has a journal.

        Raises:
            ChaosdError: it was refused, and nothing was touched.
        """
        story = await self._begin("run", text=text, name=name, overrides=overrides, confirmed=confirmed)
        async for record in story.follow():
            _unless_error(record)
            self.live[story.view.run] = story
            return story
        raise ChaosdError("the engine died before it began", hint="see the log")

    async def stop_all(self) -> list[str]:
        """Ask every run to end, and wait until each has; returns their names."""
        stories = dict(self.live)
        for story in stories.values():
            story.stop()
        for story in stories.values():
            async for _ in story.follow(len(story.records)):
                pass
        return list(stories)


def _unless_error(record: Record) -> Record:
    if record["type"] == "error":
        error = ChaosdError(record["error"], hint=record["hint"])
        error.exit = Exit(record["exit"])
        raise error
    return record
