"""System calls of a program that chaosd starts, made to fail or to wait by seccomp user notification.

Only the chosen calls are stopped, and decided by a process of ours (``notify_process``); all others are as
quick as ever. The filter itself cannot be taken away (seccomp(2)): what remains with the program is one that
lets everything pass, and a process that says so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import time
from functools import partial

from chaosd.errors import ChaosdError
from chaosd.kernel import arguments, bpf, decision, helper, launch, seccomp
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.decision import Channel
from chaosd.kernel.edit import Undo
from chaosd.kernel.leased import Leased
from chaosd.kernel.match import Rule
from chaosd.kernel.notify_calls import Notifications
from chaosd.kernel.notify_child import Child, supervisors
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.syscalls import Calls, number

_children: dict[int, Child] = {}
"""The supervisor of what this process has launched, by its pid: a program can have one only."""


class Notify(Leased, frozen=True, tag="process.notify"):
    """System calls of a launched program and all that it starts are decided one by one by a supervisor.

    Args:
        run, index: as in Planning.
        process: the program.
        calls: which of its calls.
        rule: how many of these; ``worsen`` is the chance of each.
        error: the errno they fail with; 0 to let them be made.
        delay, jitter: seconds they are held before, more or less.
    """

    process: ProcessRef
    calls: Calls
    rule: Rule
    error: int = 0
    delay: float = 0.0
    jitter: float = 0.0

    @property
    def slot(self) -> str:
        """Its own name; one supervisor decides for several faults."""
        return f"process.notify:{self.run}:{self.index}"

    def describe(self) -> str:
        """One line: what becomes of which calls, and what remains."""
        does = decision.says(self.error, self.delay, self.jitter)
        return (
            f"filter pid {self.process.pid} and children: {does} {self.calls}; "
            "they keep a filter that lets everything pass"
        )

    def prepare(self) -> None:
        """Start the supervisor, and say which calls it will be about: the filter is for all faults."""
        _child(self).want({arch: _numbers(names) for arch, names in self._calls().items()})

    def ready(self) -> bool:
        """Whether the supervisor has started."""
        return _child(self).ready()

    def _calls(self) -> dict[int, dict[int, str]]:
        return arguments.numbered(self.calls.names)

    def apply(self) -> None:
        """Put the waiting program under the filter, if no other fault has, and let calls be decided.

        Raises:
            UnsupportedError: the kernel takes no filter.
            ChaosdError: the filters make no sense for these calls, it is not a program that this process
                has launched and not begun, or the supervisor did not start.
        """
        for problem in arguments.refused(self.calls):
            raise ChaosdError(problem, hint="choose other calls, or leave the filter out")
        self.prepare()
        held = _Held(self)
        with bpf.undone_on_error(bpf.Held(held)):
            settings = decision.settings(self.calls, self.rule, self.error, self.delay, self.jitter)
            held.child.add(self.index, settings, held)
        held.handed_over()
        bpf.live[self.slot] = held

    def revert(self) -> Undo:
        """Let every call pass; the filter stays with the program, and with a process that answers for it.

        Raises:
            OSError: a supervisor of this run goes on deciding.
        """
        if bpf.close(self.slot):
            return Undo.DONE
        # Where one has to be killed, its keeper lets everything pass.
        found = helper.end("supervisor", partial(supervisors, self.run))
        return Undo.DONE if found else Undo.GONE

    def present(self) -> bool:
        """Whether a supervisor decides for this edit."""
        return self.slot in bpf.live or (self.process.pid not in _children and any(supervisors(self.run)))

    def lost(self) -> str:
        """Why no call is decided any more; empty while all is well."""
        held = bpf.live.get(self.slot)
        if isinstance(held, _Held):
            return held.child.problem()
        return "" if self.present() else "its supervisor is gone"

    def scale(self, strength: float, share: float) -> None:
        """As ``decision.scale``."""
        decision.scale(self.index, self.error, strength, share)


def _numbers(names: dict[int, str]) -> set[int]:
    return {number for number in names if number <= 0xFFFF}  # above are those within socketcall(2)


def _child(edit: Notify) -> Child:
    started = launch.current()
    if started is None or started.process != edit.process:
        raise ChaosdError(f"pid {edit.process.pid} is no program that chaosd starts", hint="chaosd exec")
    if edit.process.pid not in _children:
        _children[edit.process.pid] = Child(edit.run, started)
    return _children[edit.process.pid]


class _Held(Channel):
    """What the engine holds of an edit: the supervisor, and where that counts."""

    def __init__(self, edit: Notify) -> None:
        super().__init__()
        self.child, self.index = _child(edit), edit.index

    def close(self) -> None:
        """Let every call pass; a supervisor that does not obey is let go of, and passes then."""
        super().close()
        try:
            self.child.drop(self.index)
        except ChaosdError:
            self.child.kill()


@capability("seccomp-notify")
def NOTIFY() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether a filter can hand calls over: not lasting, for chaosd itself may be under such a one."""
    yields = number("sched_yield")
    arch = next(iter(arguments.numbered(("sched_yield",))))
    assert yields is not None
    canary = _Canary(seccomp.program({arch: {yields}}))
    try:
        answer = canary.sing()
    except ChaosdError as error:
        return Verdict(ok=False, reason=error.message, mend=error.hint)
    finally:
        canary.close()
    if answer != errno.EXFULL:
        return Verdict(ok=False, reason=f"a call that had to fail with EXFULL got {os.strerror(answer)}")
    return Verdict(ok=True)


class _Canary:
    """A child under a filter, whose one stopped call is answered here."""

    _WITHIN = 10

    def __init__(self, program: bytes) -> None:
        self._answer, said = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _sing(program, said)
        os.close(said)

    def sing(self) -> int:
        """The errno of its call; raises ``ChaosdError`` when it took no filter."""
        listener, stop = None, time.monotonic() + self._WITHIN
        while listener is None:
            if select.select([self._answer], [], [], 0.001)[0] or time.monotonic() > stop:
                raise seccomp.refusal(int.from_bytes(os.read(self._answer, 2), "little"))
            listener = seccomp.listener_of(self._pid)
        try:
            if select.select([listener], [], [], self._WITHIN)[0]:
                calls = Notifications(listener)
                calls.answer(calls.receive(), errno.EXFULL)
        finally:
            os.close(listener)
        return int.from_bytes(os.read(self._answer, 2), "little")

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._answer)


def _sing(program: bytes, said: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    answer = seccomp.install(program)
    try:
        if not answer:
            os.sched_yield()
    except OSError as error:
        answer = error.errno or 1
    finally:
        os.write(said, answer.to_bytes(2, "little"))
        os._exit(0)
