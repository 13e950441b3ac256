"""One run, from its plan to its verdict: promise, apply, watch, put back, recover.

The engine only sequences. It does not know any fault, and has no undo of its own.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from chaosd import patience, restore, watchdog
from chaosd import plan as planning
from chaosd.checks.sampler import Sampler
from chaosd.errors import ChaosdError, Exit, ForeignStateError, NotRestoredError, TargetLostError
from chaosd.expectation import Outcome, unmet
from chaosd.interrupt import Interrupt
from chaosd.journal import HostLock, Journal, Record
from chaosd.judge import Judge
from chaosd.kernel.edit import Edit, Undo
from chaosd.kernel.process import ProcessRef
from chaosd.plan import Plan
from chaosd.scenario import Scenario
from chaosd.timeline import Timeline
from chaosd.verdict import VERDICTS, Ended
from chaosd.watchdog import now

TICK = 0.1
"""Seconds between two looks at everything that can end a run."""
SAMPLE = 0.5
"""Seconds between two samples in the journal, and between two looks at targets and edits."""
LEASE = 2.0
"""Seconds for which a fault in the kernel outlives the last sign of life of its engine."""
RECENT = 2.0
"""Seconds that the figures of one sample look back."""
BASELINE = 2.0
"""Seconds over which the steady state is measured before the first edit."""
STEADY = 1.0
"""Seconds for which every probe must be good before the steady state counts as holding."""

Show = Callable[[Record], None]


def execute(scenario: Scenario, show: Show, *, confirmed: bool = False, until: int | None = None) -> Exit:
    """Do a run: one at a time on a host, and only after what dead runs left is put back.

    Args:
        scenario: what to do.
        show: is given every record of the journal as it is written.
        confirmed: the user has said yes to a radius of the entire system.
        until: a descriptor, such as a pidfd, that ends the fault before its time by becoming readable.

    Returns:
        The exit status; the journal says why.

    Raises:
        ChaosdError: refused before anything was touched.
    """
    if os.geteuid() != 0:
        raise ChaosdError("chaosd changes kernel state and must be root", hint="sudo chaosd ...")
    run = os.urandom(3).hex()
    lock = HostLock(run, scenario.name)
    try:
        if stuck := restore.recover_stale():
            raise NotRestoredError(f"an earlier run is not put back: {stuck[0]}", hint="chaosd revert --all")
        # Planned only now: what a dead run left must not be taken for how the host was.
        plan = planning.make(scenario, run=run, confirmed=confirmed)
        with Interrupt() as interrupt:  # before there is a journal that somebody would have to close
            return _Run(plan, show, until, interrupt).execute()
    finally:
        lock.release()


class _Run:
    def __init__(self, plan: Plan, show: Show, until: int | None, interrupt: Interrupt) -> None:
        self.plan = plan
        self.until = [until] if until is not None else []
        self.scenario = plan.scenario
        # Forked before the first thread exists, if it does not stand by already.
        self.watchdog = watchdog.take()
        self.pulse = self.watchdog.pulse
        self.show = show
        self.sampler = Sampler(plan.checks, plan.places)
        self.judge = Judge(self.scenario)
        self.expected: list[Outcome] = []
        self.applied: dict[Edit, int] = {}  # with the number that the journal knows it by
        self.touched = False
        self.interrupt = interrupt
        self.live = 0.0  # since when the fault is, in seconds of now()
        self.sampled = self.ends = 0.0
        self.measured = bool(self.scenario.steady_state or self.scenario.observe)
        self.journal = Journal.create(
            plan.run,
            self._tell,
            scenario=plan.scenario.name,
            process=msgspec.to_builtins(ProcessRef.of(os.getpid())),
            plan=planning.describe(plan),
        )
        self.timeline = Timeline(plan, self._apply, self._retire, self.journal.write)

    def _tell(self, record: Record) -> None:
        self.pulse.beat()  # a disk may have taken its time for the one before
        self.show(record)

    def execute(self) -> Exit:
        try:
            self.watchdog.watch(self.journal.path)  # it gets ready while we look around
            if self.measured:
                self.sampler.start()
            return self._execute()
        except BaseException as error:
            self.journal.write("end", verdict="failed", reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.sampler.stop()
            self.journal.close()

    def _execute(self) -> Exit:
        try:
            end = self._guarded(self._inject)
        finally:
            stuck = self._revert()
        if stuck:
            self.journal.write("end", verdict="not-restored", reason="; ".join(stuck))
            self.watchdog.hand_over()
            return Exit.NOT_RESTORED
        if self.touched and end.verdict in ("passed", "aborted", "inconclusive"):
            recovery = self._guarded(self._recover)
            end = recovery if end.verdict == "passed" else end
        if end.verdict == "passed" and (missed := unmet(self.expected)):
            end = Ended("failed", missed)
        self.journal.write("end", verdict=end.verdict, reason=end.reason)
        self.journal.finish()
        self.watchdog.dismiss()
        return VERDICTS[end.verdict]

    def _guarded(self, phase: Callable[[], None]) -> Ended:
        try:
            phase()
        except (Ended, ChaosdError, OSError) as error:
            lost = isinstance(error, TargetLostError) and self.watchdog.dead()
            end = Ended("aborted", "the watchdog died") if lost else Ended.of(error)
            self.journal.write("ending", sync=False, verdict=end.verdict, reason=end.reason)
            return end
        return Ended("passed", "")

    # The phases of a run, in order.

    def _inject(self) -> None:
        self._phase("baseline")
        self._baseline()
        while not self.timeline.prepare(0.0):
            self._tick()
        for planned in self.plan.faults:
            planned.target.check_alive()
        apart = watchdog.apart(self.plan.run, self.watchdog.process)
        state = restore.surroundings((*apart, *self.plan.edits), self.pulse.beat)
        self.journal.write("before", state=state)
        self.watchdog.wait_ready()
        self._phase("inject")
        self.ends = now() + float(self.scenario.duration)
        self.pulse.set_deadline(self.ends)
        # The kernel may take half a second for it: before a fault that checks watch, after any other.
        early = apart if self.measured else ()
        for edit in early:
            self._apply(edit)
        self.timeline.move(0.0, self.judge.share)
        self.ends = now() + float(self.scenario.duration)
        self.pulse.set_deadline(self.ends)
        self._phase("fault", ends=self.ends)
        self.live = now()
        if not self.measured:  # its threads would have kept the fault waiting
            self.sampler.start()
        for edit in apart[len(early) :]:
            self._apply(edit)
        self._watch()

    def _watch(self) -> None:
        try:
            while now() < self.ends and not self._over():
                self._tick()
            self.interrupt.check()  # the end may have come of the same Ctrl-C
        finally:
            self._sample()
            self._stats("during", since=self.live)
            self.expected = self.judge.outcomes(self.sampler, now(), self.live)
            if self.expected:
                self.journal.write("expected", sync=False, outcomes=msgspec.to_builtins(self.expected))
        if unhit := self.timeline.unhit():
            raise Ended("inconclusive", unhit)

    def _baseline(self) -> None:
        if not self.measured:
            return
        began = now()
        while now() < began + BASELINE:
            self._tick()
        self._stats("before", since=began)
        if failing := self._failing(since=began):
            raise Ended("refused", f"the steady state does not hold: {failing}")

    def _apply(self, edit: Edit) -> None:
        self._renew()
        number = self.journal.intend(edit)
        self.applied[edit], self.touched = number, True
        try:
            patience.apply(edit, self._renew)
        except ForeignStateError:
            self.journal.reverted(number, Undo.GONE)  # nothing was done, and what is there is not ours
            raise
        self._renew()
        if not edit.present():
            raise ChaosdError(f"the kernel does not show it after it was applied: {edit.describe()}")
        self.journal.applied(number)
        self.interrupt.check()

    def _retire(self, edits: Sequence[Edit]) -> None:
        numbers = [self.applied.pop(edit) for edit in edits if edit in self.applied]
        if stuck := restore.undo(self.journal, self._renew, only=numbers):
            raise ChaosdError(f"could not be put back: {stuck[0]}")

    def _revert(self) -> list[str]:
        self.live = 0.0
        self.pulse.set_deadline(0)
        self._phase("revert")
        began = now()
        faults = self.timeline.edits  # they come first: what moves the watchdog home may take as long
        numbers = [number for edit, number in self.applied.items() if edit in faults]
        restore.undo(self.journal, self.pulse.beat, only=numbers)
        for pause in (0.0, 0.1, 0.5, 2.0):
            time.sleep(pause)
            if not (stuck := restore.undo(self.journal, self.pulse.beat)):
                break
        took = now() - began
        compared, differs = restore.differences(self.journal, self.pulse.beat) if not stuck else (0, [])
        self.journal.write("restored", took=took, compared=compared, differs=differs, stuck=stuck)
        return stuck

    def _recover(self) -> None:
        if not self.scenario.steady_state:
            return
        self._phase("recover")
        began = now()
        since: float | None = None  # when the steady state began to hold for good
        while now() < began + BASELINE or since is None:
            failing = self._failing(since=began)
            since = None if failing else since or now()
            if failing and now() > began + self.scenario.recover_within:
                break
            self._tick()
        self._stats("after", since=began)
        if since is None:
            raise Ended("failed", f"no recovery within {self.scenario.recover_within}: {failing}")
        self.journal.write("recovered", took=since - began)

    # What every tick looks at.

    def _tick(self) -> None:
        self._renew()
        self.interrupt.check()
        if self.watchdog.dead():
            raise Ended("aborted", "the watchdog died")
        if now() - self.sampled >= SAMPLE:
            self._sample()
            if self.live:
                self._check_held()
        if self.live:
            self.sampler.heard()
            self.judge.look(self.sampler, now(), self.live)
            self.timeline.move(min(now(), self.ends) - self.live, self.judge.share)
        wake = (*self.until, self.sampler.fileno()) if self.live else ()  # a new sample is judged at once
        select.select([self.watchdog.fileno(), *wake], [], [], TICK)

    def _over(self) -> bool:
        return bool(self.until and select.select(self.until, [], [], 0)[0])

    def _check_held(self) -> None:
        self.timeline.check_targets()
        for edit in [*self.applied]:
            if (why := edit.lost()) and not self._over():
                self.timeline.check_targets()  # that may be why
                if edit in self.applied:
                    raise Ended("aborted", f"{edit.describe()}: {why}")

    def _renew(self) -> None:
        self.pulse.beat()
        until = min(now() + LEASE, self.ends + TICK) if self.ends else now() + LEASE
        for edit in self.applied:
            edit.renew(until)

    def _failing(self, since: float) -> str:
        return self.sampler.failing(self.scenario.steady_state, STEADY, since)

    # What goes into the journal.

    def _phase(self, name: str, **fields: Any) -> None:
        self.journal.write("phase", sync=False, phase=name, **fields)

    def _sample(self) -> None:
        self.sampled = now()
        self.journal.write(
            "sample",
            sync=False,
            checks=self.sampler.summary(RECENT),
            evidence=self.timeline.evidence(),
            hits=self.timeline.hits(),
            levels=self.timeline.levels(),
        )

    def _stats(self, when: str, since: float) -> None:
        if checks := self.sampler.summary(now() - since, since=since):
            self.journal.write("stats", sync=False, when=when, checks=checks)
