"""The runs of the daemon: ordered from the zygote, followed as they go, and told to whoever asks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

from chaosd import journal
from chaosd.daemon.refusals import DeniedError, raise_any
from chaosd.daemon.tape import Record, Tape
from chaosd.daemon.zygote import OVER, Zygote
from chaosd.errors import BusyError
from chaosd.places import history_dir, run_dir
from chaosd.report.fold import View
from chaosd.restore import STALE_TIMEOUT

KEPT = 500
"""Records that the stream of everything keeps for readers who are slow."""

_PATIENCE = 0.5  # of an engine; far under what its watchdog gives it
_FOR_ANSWERS = 30.0  # of who has nothing else to do
_LONGEST = 300.0
_AT_ONCE = 8
_SUITES = 20
_LARGEST = 1 << 25


class Child(Tape):
    """A child of the zygote, and what it tells besides the records of its runs; ``run`` is the newest."""

    def __init__(self, deed: str, pidfd: int) -> None:
        super().__init__()
        self.deed = deed
        self._pidfd = pidfd
        self.run: Run | None = None

    def stop(self) -> None:
        """Ask it to end; a run puts everything back."""
        self._send(signal.SIGTERM)

    def lift(self) -> None:
        """Have its run go on as if the time of its faults were over."""
        self._send(OVER)

    def _send(self, number: signal.Signals) -> None:
        if not self.ended:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def end(self) -> None:
        """It has died."""
        os.close(self._pidfd)
        super().end()


class Run(Tape):
    """A run and its records; ``view`` is their fold."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self.view = View()
        self.child = child

    def add(self, record: Record) -> None:
        """Append a record of its journal."""
        self.view.add(record)
        super().add(record)

    async def attended(self) -> AsyncIterator[Record]:
        """Every record until the end, which comes with that of the reader at the latest."""
        try:
            async for record in self.follow():
                yield record
        finally:
            self.child.stop()


class Runs:
    """Everything that the zygote's children do; ``feed`` is told of all that changes the host.

    ``live`` holds the runs that go on, ``suites`` the newest suites, by their ids.

    Args:
        zygote: where children come from.
    """

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work: dict[Child, str] = {}  # what holds the host, and what to call it
        self._starting = asyncio.Lock()
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self.live: dict[str, Run] = {}
        self.suites: dict[str, Child] = {}
        self.feed = Tape(KEPT)

    async def ask(self, deed: str, **order: Any) -> Any:
        """The ``answer`` that a child gives.

        Raises:
            ChaosdError: as the child has it.
        """
        async with self._asking:
            child = await self._begin(deed, None, order)
            try:
                async with asyncio.timeout(_LONGEST):
                    async for record in child.follow():
                        raise_any(record)
                        return record["answer"]
            except TimeoutError:
                child.stop()
                raise DeniedError(504, f"{deed} took more than {_LONGEST:.0f} s") from None
        raise DeniedError(500, f"the process that was to {deed} died without a word", "journalctl -u chaosd")

    async def follow(self, deed: str, **order: Any) -> AsyncIterator[Record]:
        """Everything that a child tells, until it ends or nobody listens any more."""
        child = await self._begin(deed, None, order)
        try:
            async for record in child.follow():
                yield record
        finally:
            child.stop()

    async def start(self, deed: str, called: str, **order: Any) -> tuple[Child, Record]:
        """Start what holds the host; returns once it has told something, a run its header.

        Args:
            deed: what to do.
            called: what to name to others who want the host meanwhile.
            order: for the deed.

        Raises:
            BusyError: another one of this daemon holds the host.
            ChaosdError: it was refused, and nothing was touched.
        """
        async with self._starting:
            if self._at_work:
                runs = [f"{name} ({run.view.scenario})" for name, run in self.live.items()]
                holder = ", ".join(runs or self._at_work.values())
                raise BusyError(f"another run holds this host: {holder}", hint="chaosd status, chaosd stop")
            child = await self._begin(deed, called, order)
            async for record in child.follow():
                if record["type"] == "error":
                    await child.until_end()  # who is told so may try the next one at once
                raise_any(record)
                return child, record
        raise DeniedError(500, "the engine died before it began", "journalctl -u chaosd")

    def keep(self, suite: Child) -> str:
        """Keep a suite for those who will ask for it by the id returned; the oldest is forgotten."""
        name = os.urandom(3).hex()
        self.suites[name] = suite
        while len(self.suites) > _SUITES:
            del self.suites[next(iter(self.suites))]
        return name

    async def attend(self, deed: str, **order: Any) -> AsyncIterator[Record]:
        """Everything that a child tells which may start a run; others are not kept from the host by it."""
        child = await self._begin(deed, "", order)
        async for record in child.follow():
            yield record

    async def stop_all(self) -> list[View]:
        """Have everything end, suites as well, and be put back; the runs that were live, as they ended."""
        runs = [*self.live.values()]
        children = [*self._at_work, *(run.child for run in runs)]
        for child in children:
            child.stop()
        for child in children:
            await child.until_end()
        return [run.view for run in runs]

    async def close(self) -> None:
        """The same, and tell nobody anything any more."""
        await self.stop_all()
        self.feed.end()

    async def _begin(self, deed: str, called: str | None, order: Record) -> Child:
        patience = _FOR_ANSWERS if called is None else _PATIENCE
        try:
            pidfd, end = self._zygote.order(deed, patience, **order)
        except OSError as error:
            raise DeniedError(503, f"nothing can be started: {error}", "systemctl restart chaosd") from None
        child = Child(deed, pidfd)
        if called:
            self._at_work[child] = called
        task = asyncio.create_task(self._listen(child, end, public=called is not None))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return child

    async def _listen(self, child: Child, end: socket.socket, *, public: bool) -> None:
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=_LARGEST)
        run: Run | None = None
        try:
            async for line in reader:
                if not line.endswith(b"\n"):
                    break  # torn when it was killed
                record = msgspec.json.decode(line)
                if not public:
                    child.add(record)
                    continue
                run = await self._sort(child, run, record)
                if record["type"] != "error":  # nothing has happened
                    self.feed.add(record if run is None else {"run": run.view.run, **record})
        finally:
            writer.close()
            await self._end(run)
            self._at_work.pop(child, None)
            child.end()

    async def _sort(self, child: Child, run: Run | None, record: Record) -> Run | None:
        """Put a record where it belongs; returns the run that goes on after it."""
        kind = record["type"]
        if kind in ("run", "ended", "skipped"):  # the two are a suite's: its run is over
            await self._end(run)
            run = Run(child) if kind == "run" else None
        if run is not None:
            run.add(record)
            child.run = self.live[run.view.run] = run
        if run is None or kind == "run":
            child.add(record)
        return run

    async def _end(self, run: Run | None) -> None:
        if run is None:
            return
        if run.view.phase != "ended":
            await self._complete(run)
        self.live.pop(run.view.run, None)
        run.end()

    async def _complete(self, run: Run) -> None:
        """Of an engine that was killed, the watchdog puts everything back and writes the rest."""
        name, until = f"{run.view.run}.jsonl", time.monotonic() + STALE_TIMEOUT
        while (run_dir() / name).exists() and time.monotonic() < until:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.02)
        for folder in (history_dir(), run_dir() / "finished", run_dir()):
            with suppress(OSError):
                for record in [*journal.read(folder / name)][run.count :]:
                    run.add(record)
                    self.feed.add({"run": run.view.run, **record})
                return
