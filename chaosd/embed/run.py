"""A run as the program sees it that has asked for it: live, and when it is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from chaosd.errors import (
    ChaosdError,
    EndedEarlyError,
    Exit,
    NotRestoredError,
    TargetLostError,
    UnsupportedError,
)
from chaosd.journal import Record
from chaosd.report import facts
from chaosd.report.fold import View
from chaosd.verdict import VERDICTS

if TYPE_CHECKING:
    from chaosd.report.render import Form

_REFUSALS = {"unsupported": UnsupportedError, "target-lost": TargetLostError}


class Source(Protocol):
    """Who does a run: ``own.Own`` or ``told.Told``."""

    def follow(self, note: Callable[[Record], None]) -> None: ...  # noqa: D102

    def end(self) -> None: ...  # noqa: D102

    def stop(self) -> None: ...  # noqa: D102


class Run:
    """A run of this program's. Its block begins when the faults are live, and lifts them when it ends.

        with chaosd.inject("process.pause", target="pid:4711") as run:
            ...
        assert run.verdict == "passed"

    Everything of it may be used by any thread; ``async with`` does not hold up the event loop.

    Args:
        source: who does it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._view = View()
        self._news = threading.Condition()
        self._ended = self._over = False
        self._error: Exception | None = None
        # Whoever does the run takes the death of this thread for that of the program (``own``).
        self._thread = threading.Thread(target=self._follow, name="chaosd", daemon=True)

    @property
    def id(self) -> str:
        """Six hexadecimal digits, as in ``chaosd report ID``; empty before it has begun."""
        return self._view.run

    @property
    def phase(self) -> str:
        """``starting``, ``baseline``, ``inject``, ``fault``, ``revert``, ``recover`` or ``ended``."""
        return self._view.phase

    @property
    def live(self) -> bool:
        """Whether the faults are in force, as its engine has told."""
        return self._view.phase == "fault"

    @property
    def plan(self) -> dict[str, Any]:
        """What it does: ``faults`` with mechanism, edits and effect, ``steady_state``, and so on."""
        return self._view.plan

    @property
    def evidence(self) -> list[dict[str, Any]]:
        """What the kernel has counted, an entry for each fault that counts; renewed every half second.

        Each has ``fault``, ``target``, ``matched``, ``injected``, ``skipped`` by reason, ``unit``, and
        ``processes`` with their hits where those are known.
        """
        return self._view.evidence

    @property
    def matched(self) -> int | None:
        """How many events met the filters; None when nothing counts them."""
        return sum(entry["matched"] for entry in self.evidence) if self.evidence else None

    @property
    def injected(self) -> int | None:
        """How many events got a fault; None when nothing counts them."""
        return facts.hits(self._view)

    @property
    def verdict(self) -> str:
        """How it ended, such as ``passed`` or ``inconclusive``; empty while it goes on."""
        return self._view.verdict

    @property
    def reason(self) -> str:
        """Why it ended so, in words."""
        return self._view.reason

    @property
    def exit(self) -> Exit | None:
        """The exit status of ``chaosd run`` for the verdict; None while it goes on."""
        return VERDICTS.get(self.verdict, Exit.FAILED) if self.verdict else None

    @property
    def recovered_after(self) -> float | None:
        """Seconds until the steady state was back; None where it was not, or there is none."""
        return self._view.recovered_after

    def brief(self) -> dict[str, Any]:
        """All of it as plain data, as ``chaosd run --json`` prints it."""
        with self._news:
            return self._view.brief()

    def report(self, form: Form) -> str:
        """Its report: ``html``, ``json``, ``junit`` or ``markdown``."""
        from chaosd.report.render import render

        with self._news:
            return render([self._view], form)

    def __str__(self) -> str:
        with self._news:
            words = [f"run {self.id}: {self.verdict or self.phase}"]
            words += [f"  {self.reason}"] if self.reason else []
            words += [
                f"  {e['fault']} on {e['target']}: {e['injected']} of {e['matched']} {e['unit']} hit"
                for e in self.evidence
            ]
            return "\n".join([*words, f"  {facts.restoration(self._view)}"])

    # What it does.

    def start(self) -> None:
        """Begin, and return when the faults are live.

        Raises:
            UnsupportedError: this host cannot do it; the message says why.
            BusyError: another run holds the host.
            ChaosdError: it was refused.
        """
        self._begin(lambda: self._over or bool(self._view.live))
        if self._over:
            self._raise_unrestored()
            if not self._view.live:
                raise _REFUSALS.get(self.verdict, ChaosdError)(self.reason)

    def complete(self) -> None:
        """Begin, and return when it is over; how it ended is its verdict.

        Raises:
            NotRestoredError: the host could not be put back.
            ChaosdError: it was refused before it began.
        """
        self._begin(lambda: self._over)
        self._raise_unrestored()

    def end(self) -> None:
        """Lift the faults; return when the host is put back and the steady state, if there is one, is back.

        Once is enough; again, it does nothing.

        Raises:
            NotRestoredError: the host could not be put back.
            TargetLostError: a target was gone before that.
            EndedEarlyError: the faults were over before that, for another reason.
        """
        if self._ended:
            return
        self._ended, asked = True, time.clock_gettime(time.CLOCK_BOOTTIME)
        self._wait_end()
        self._raise_unrestored()
        # an engine that was killed has not told when it lifted them
        lifted = next((phase.t for phase in self._view.phases if phase.name == "revert"), 0.0)
        if lifted < asked:
            kind = TargetLostError if self.verdict == "target-lost" else EndedEarlyError
            raise kind(self._too_early(), hint="" if self.reason else "give it a longer duration")

    def wait_hit(self, within: float = 10.0) -> int:
        """Wait until the faults have hit something.

        Args:
            within: seconds.

        Returns:
            How many events they have hit.

        Raises:
            ChaosdError: they have not, or are over, or are of a kind that counts nothing.
        """
        until = time.monotonic() + within
        with self._news:
            while not (hit := self.injected) and self.live and (left := until - time.monotonic()) > 0:
                self._news.wait(left)
        if not hit:
            why = "" if self.evidence else "; nothing counts what it hits"
            raise ChaosdError(f"run {self.id} has hit nothing within {within:g} s{why}")
        return hit

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self.end()
        except (EndedEarlyError, TargetLostError) as early:
            if error is None:
                raise
            error.add_note(f"chaosd: {early}")

    async def __aenter__(self) -> Self:
        await _to_the_end(self.start, self._source.stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _to_the_end(lambda: self.__exit__(kind, error, trace), self._source.stop)

    # How it does it.

    def _follow(self) -> None:
        try:
            self._source.follow(self._note)
        except Exception as error:  # noqa: BLE001 - it is raised where the program waits for it
            self._error = error
        finally:
            self._tell(over=True)

    def _note(self, record: Record) -> None:
        with self._news:
            self._view.add(record)
        self._tell(over=False)

    def _tell(self, *, over: bool) -> None:
        with self._news:
            self._over = self._over or over
            self._news.notify_all()

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._news:
            self._news.wait_for(until)

    def _begin(self, until: Callable[[], bool]) -> None:
        self._thread.start()
        try:
            self._wait(until)
        except BaseException:  # Ctrl-C, say
            self._source.stop()
            self._wait(lambda: self._over)
            raise

    def _wait_end(self) -> None:
        try:
            self._source.end()
            self._wait(lambda: self._over)
        except BaseException:
            self._source.stop()
            self._wait(lambda: self._over)
            raise

    def _raise_unrestored(self) -> None:
        if self._error is not None:
            raise self._error
        if not self.verdict:
            raise ChaosdError("the process of the run died before it began")
        if self.verdict == "not-restored":
            raise NotRestoredError(self.reason, hint="chaosd revert --all")

    def _too_early(self) -> str:
        why = self.reason or "its time was over"
        return f"the faults of run {self.id} were lifted before the block was over: {self.verdict}: {why}"


async def _to_the_end(work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Let a thread do it, and if that is cancelled have it ended in order, and wait for that."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait([doing])
        if isinstance(error := doing.exception(), NotRestoredError):
            raise error from None  # which matters more
        raise
