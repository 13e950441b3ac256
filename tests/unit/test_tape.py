"""Readers of a tape see every record, at their own pace, or are told how many they have missed."""

from __future__ import annotations

import asyncio

from chaosd.daemon.tape import Record, Tape


def _record(number: int) -> Record:
    return {"type": "x", "number": number}


def test_every_reader_sees_all_that_was_and_all_that_comes() -> None:
    async def play() -> list[list[int]]:
        tape = Tape()

        async def read(pause: float) -> list[int]:
            found = []
            async for record in tape.follow():
                found.append(record["number"])
                await asyncio.sleep(pause)
            return found

        tape.add(_record(0))
        readers = [asyncio.create_task(read(pause)) for pause in (0, 0.001)]
        for number in range(1, 20):
            tape.add(_record(number))
            await asyncio.sleep(0)
        tape.end()
        return list(await asyncio.gather(*readers))

    assert asyncio.run(play()) == [list(range(20))] * 2


def test_who_is_too_slow_is_told_so() -> None:
    async def play() -> list[Record]:
        tape = Tape(most=3)
        follower = tape.follow()
        tape.add(_record(0))
        found = [await anext(follower)]
        for number in range(1, 11):
            tape.add(_record(number))
        tape.end()
        return found + [record async for record in follower]

    assert asyncio.run(play()) == [_record(0), {"type": "missed", "count": 7}, *map(_record, (8, 9, 10))]


def test_so_far_ends_though_more_may_come() -> None:
    async def play() -> list[list[int]]:
        tape = Tape(most=2)
        found = [[record["number"] async for record in tape.so_far()]]
        for number in range(5):
            tape.add(_record(number))
        found.append([record["number"] async for record in tape.so_far()])
        return found

    assert asyncio.run(play()) == [[], [3, 4]]
