"""System calls made to fail or to wait by ptrace, on any kernel.

A process of ours (``tracer_process``) holds each system call of the target at its entry and at its exit,
which costs the target 10 us a call and more, whether it is meant or not. The kernel owns the undo: what a
dead tracer has traced, it detaches.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.kernel import arguments, bpf, decision, helper, ptrace, syscalls
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.edit import MARK, Undo
from chaosd.kernel.leased import Leased
from chaosd.kernel.match import Rule
from chaosd.kernel.process import ProcessRef, descendants, stat_fields
from chaosd.kernel.syscalls import Calls
from chaosd.kernel.tasks import Members
from chaosd.kernel.tracer_child import Child, tracers

_PATIENT = (
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "semop", "semtimedop",
    "rt_sigtimedwait", "io_getevents", "io_uring_enter",
)  # fmt: skip
"""Calls that any stop ends with EINTR, also where no handler is run (signal(7)): for ``ptrace.mend``."""


class Trace(Leased, frozen=True, tag="process.trace"):
    """The system calls of a target are decided one by one by a tracer, which dies with this process.

    Args:
        run, index: as in Planning.
        members: who the target is. Processes that join its cgroup later are left alone, except for
            the children of those that are traced.
        calls: which of their calls.
        rule: how many of these; ``worsen`` is the chance of each.
        error: the errno they fail with; 0 to let them be made.
        delay, jitter: seconds they are held before, more or less.

    Prepare it in the engine's main thread: PR_SET_PDEATHSIG fires when the creating *thread* ends.
    """

    members: Members
    calls: Calls
    rule: Rule
    error: int = 0
    delay: float = 0.0
    jitter: float = 0.0

    @property
    def slot(self) -> str:
        """The one tracer that its first process can have."""
        first = next(iter(self.members.processes), None)
        return (
            f"process:{first.pid}.{first.start_time}:tracer"
            if first
            else f"{self.members.attach.path}:tracer"
        )

    def describe(self) -> str:
        """One line: whose calls, and what becomes of them."""
        does = decision.says(self.error, self.delay, self.jitter)
        return f"trace {self.members.describe()}: {does} {self.calls}"

    def prepare(self) -> None:
        """Start the tracer, which has nothing to do yet."""
        if self not in _children:
            _children[self] = Child(self.run, self.index)

    def ready(self) -> bool:
        """Whether the tracer has started (``ChaosdError`` if it does not)."""
        child = _children.get(self)
        try:
            return child is None or child.ready()
        except ChaosdError:
            _children.pop(self).close()
            raise

    def apply(self) -> None:
        """Tell the tracer what to do, and wait until it has all threads.

        Raises:
            TargetLostError: the target has no process.
            UnsupportedError: tracing is forbidden here.
            ChaosdError: the filters make no sense for these calls, a process is traced already, or the
                tracer did not start.
        """
        for problem in arguments.refused(self.calls):
            raise ChaosdError(problem, hint="choose other calls, or leave the filter out")
        known = self.members.now()
        if not known:
            raise TargetLostError(f"{self.members.describe()} has no process")
        self.prepare()
        child = _children.pop(self)
        with bpf.undone_on_error(bpf.Held(child)):
            child.begin(self._settings())
            child.seize({ref.pid for ref in known})
            while fresh := self.members.now() - known:
                child.seize({ref.pid for ref in fresh})
                known |= fresh
        bpf.live[self.slot] = child

    def _settings(self) -> dict[str, object]:
        patient = (syscalls.number(name) for name in _PATIENT)
        return {
            **decision.settings(self.calls, self.rule, self.error, self.delay, self.jitter),
            "patient": [number for number in patient if number is not None],
            "exempt": list(_exempt()),
        }

    def revert(self) -> Undo:
        """End the tracer, which lets go of all threads; those that were held make their calls.

        Raises:
            OSError: a tracer of this run does not end.
        """
        held = bpf.close(self.slot)
        ended = helper.end("tracer", partial(tracers, self.run, self.index))
        return Undo.DONE if held or ended else Undo.GONE

    def present(self) -> bool:
        """Whether some thread of the target has a tracer of this edit."""
        ours = {str(pid) for pid in tracers(self.run, self.index)}
        return bool(ours) and any(tracer in ours for tracer in self._tracers())

    def _tracers(self) -> Iterator[str]:
        for ref in self.members.now():
            with suppress(OSError):
                for tid in os.listdir(f"/proc/{ref.pid}/task"):
                    yield ptrace.of_status(int(tid), "TracerPid:")

    def lost(self) -> str:
        """Why no call is decided any more; empty while all is well."""
        child = bpf.live.get(self.slot)
        if isinstance(child, Child):
            return child.problem()
        return "" if self.present() else "its tracer is gone"

    def scale(self, strength: float, share: float) -> None:
        """As ``decision.scale``."""
        decision.scale(self.index, self.error, strength, share)

    def surroundings(self) -> dict[str, str]:
        """Who traces each process that the target was made of, and whether it is stopped."""
        if self.members.processes:
            return {f"process {ref.pid}": _state(ref.pid) for ref in self.members.processes if ref.alive()}
        states = {_state(ref.pid) for ref in self.members.now()}
        return {self.members.describe(): ", ".join(sorted(states))} if states else {}


_children: dict[Trace, Child] = {}


def _state(pid: int) -> str:
    try:
        stopped = stat_fields(pid)[0] == "T"
    except ProcessLookupError:
        return "ended"
    tracer = ptrace.of_status(pid, "TracerPid:")
    return ("stopped" if stopped else "runs") + (f", traced by {tracer}" if tracer != "0" else "")


def _exempt() -> Iterator[int]:
    yield os.getpid()
    for pid in descendants(os.getpid()):
        if ptrace.of_status(pid, "Name:").startswith(f"{MARK}-"):
            yield pid


@capability("ptrace")
def PTRACE() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether system calls can be decided by ptrace: not lasting, for Yama's ptrace_scope may be raised."""
    waits, tell = os.pipe()
    canary = os.fork()
    if canary == 0:
        _sing(waits)
    before = bpf.lease().until
    try:
        trace = _of_canary(canary)
        try:
            trace.apply()
            bpf.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + 2)
            os.write(tell, b"x")
            answer = os.waitstatus_to_exitcode(os.waitpid(canary, 0)[1])
        finally:
            trace.revert()
    except ChaosdError as error:
        os.kill(canary, signal.SIGKILL)
        os.waitpid(canary, 0)
        return Verdict(ok=False, reason=error.message, mend=error.hint)
    finally:
        bpf.renew(before)
        os.close(waits)
        os.close(tell)
    if answer != errno.EXFULL:
        return Verdict(ok=False, reason=f"a call that had to fail with EXFULL got {os.strerror(answer)}")
    return Verdict(ok=True)


def _sing(waits: int) -> None:
    answer = 0
    try:
        os.read(waits, 1)
        os.sched_yield()
    except OSError as error:
        answer = error.errno or 1
    finally:
        os._exit(answer)


def _of_canary(pid: int) -> Trace:
    members = Members(CgroupRef("/", 0), entire=False, processes=(ProcessRef.of(pid),))
    run = os.urandom(3).hex()  # another process may try the same at this moment, and end what is of its run
    return Trace(run, 63, members, Calls(("sched_yield",)), Rule(0), errno.EXFULL)
