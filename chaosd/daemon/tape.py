"""Records in the order in which they came, for any number of readers, each at a pace of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

Record = dict[str, Any]


class Tape:
    """What was told so far, and is told on.

    Args:
        most: how many records are kept for those who read slowly; all if None.
    """

    def __init__(self, most: int | None = None) -> None:
        self.ended = False
        self.count = 0
        self._kept: deque[Record] = deque(maxlen=most)
        self._news = asyncio.Event()

    def add(self, record: Record) -> None:
        """Append a record; who reads is never waited for."""
        self._kept.append(record)
        self.count += 1
        self._wake()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, first: int = 0) -> AsyncIterator[Record]:
        """Every record from number ``first`` on, those to come included, until the end.

        A reader that is so slow that records are not kept any more gets ``missed`` with their number.
        """
        at = first
        while True:
            news, oldest = self._news, self.count - len(self._kept)
            if at < oldest:
                yield {"type": "missed", "count": oldest - at}
                at = oldest
            elif at < self.count:
                at += 1
                yield self._kept[at - 1 - oldest]
            elif self.ended:
                return
            else:
                await news.wait()

    async def so_far(self) -> AsyncIterator[Record]:
        """Every record that is kept, and none to come."""
        last = self.count
        at = last - len(self._kept)
        if at < last:
            async for record in self.follow(at):
                yield record
                at += 1
                if at == last:
                    return

    async def until_end(self) -> None:
        """Wait for it."""
        while not self.ended:
            await self._news.wait()
