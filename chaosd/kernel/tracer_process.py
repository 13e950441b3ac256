"""The tracer's own process: holds every system call of a target at its entry, and lets most of them go.

Standard input brings processes to trace, line by line, and ends when the engine ends; standard output
says when all threads are held. A shared page takes the counters, a pipe some of the hits. It needs the
standard library alone, see ``tracer_start``.

The kernel owns the undo: a tracer that dies in whatever way is detached by it (kernel/ptrace.c,
exit_ptrace), and held threads go on.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import time
from heapq import heappop, heappush
from typing import Any

from chaosd.kernel import ptrace
from chaosd.kernel.tracer_decider import Decider
from chaosd.kernel.tracer_filter import Call

_TICK = 0.05  # seconds between two looks at the lease and at standard input
_AGAIN = 0.001  # until the alarm is repeated, should it fall between looking for it and waiting
_PATIENCE = 1.0  # seconds for threads that do not stop, as in vfork or in state D
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class Refused(Exception):  # noqa: N818 - it is said, and ends this process
    """A process cannot be traced: its pid, its tracer, the errno."""


class Tracer:
    """The threads of a target, and those of their calls that are held.

    Args:
        settings: what ``tracing.Trace`` has written to standard input.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._threads: dict[int, int] = {}  # tid -> pid
        self._decider = Decider(settings, self._threads.__getitem__)
        self._error: int = settings["error"]
        self._exempt = {os.getpid(), *settings["exempt"]}
        self._wanted = {arch << 32 | ptrace.ENTRY: calls for arch, calls in self._decider.calls.items()}
        self._patient = frozenset(settings["patient"])
        self._fresh: set[int] = set()  # seized, but not stopped for the first time
        self._inside: set[int] = set()  # between entry and exit of a call, as far as is certain
        self._failing: set[int] = set()  # that were made to fail, and are to be told so once more
        self._held: dict[int, int] = {}  # tid -> the number of its hold
        self._due: list[tuple[int, int, int]] = []  # when, the number, tid
        self._holds = 0
        self._over = self._rung = self._ready = False
        self._begun = 0.0  # when processes were last named
        self._said = b""

    def run(self, said: bytes) -> None:
        """Trace what standard input names until it ends or SIGTERM comes, then detach everything.

        Args:
            said: its beginning, as far as it has been read.

        Raises:
            Refused: one is traced by somebody else.
        """
        signal.signal(signal.SIGALRM, self._ring)
        signal.signal(signal.SIGTERM, self._end)
        signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
        try:
            self._hear(said)
            while not (self._over or self._begun):
                self._listen()
            os.set_blocking(0, False)
            self._trace()
        finally:
            self._detach()

    def _ring(self, *_: object) -> None:
        self._rung = True

    def _end(self, *_: object) -> None:
        self._over = True

    def _trace(self) -> None:
        # Every call of the target comes through here twice: prebound, nothing allocated, nothing called
        # that is written in Python.
        wait, call, status, info = ptrace.waitpid, ptrace.call, ptrace.status, ptrace.info
        status_at, size, info_at = ptrace.WORD_AT, ptrace.INFO_SIZE, ptrace.INFO_AT
        entry, stop, look, resume = ptrace.ENTRY, ptrace.SYSCALL_STOP, ptrace.GET_SYSCALL_INFO, ptrace.SYSCALL
        inside, wanted = self._inside, self._wanted
        while not self._over:
            tid = wait(-1, status_at, ptrace.WALL)
            if tid < 0:
                self._idle()
            elif status[0] != stop:
                self._other(tid, status[0])
            elif tid in inside:
                inside.remove(tid)
                call(resume, tid, 0, 0)
            elif call(look, tid, size, info_at) > 0 and info[0] & 0xFF == entry:
                inside.add(tid)
                calls = wanted.get(info[0])
                if not calls or info[3] not in calls or not self._strikes(tid, calls):
                    call(resume, tid, 0, 0)
            else:
                self._settle(tid)
                call(resume, tid, 0, 0)
            if self._rung:
                self._tick()

    def _idle(self) -> None:
        if ctypes.get_errno() == errno.ECHILD:
            time.sleep(_TICK)

    def _other(self, tid: int, status: int) -> None:
        self._inside.discard(tid)  # from here on it is asked anew
        self._fresh.discard(tid)
        if status & 0xFF != 0x7F:
            self._forget(tid)
        else:
            if tid not in self._threads:
                self._threads[tid] = int(ptrace.of_status(tid, "Tgid:") or tid)
            self._stopped(tid, status >> 16, status >> 8 & 0xFF)
        self._announce()

    def _stopped(self, tid: int, event: int, number: int) -> None:
        if event == ptrace.EVENT_STOP and number in _STOPS:
            ptrace.listen(tid)
            return
        if event == ptrace.EVENT_EXEC:
            for other in [other for other, pid in self._threads.items() if pid == tid and other != tid]:
                self._forget(other)
            self._held.pop(tid, None)  # it was another thread, which has ended
        if event in (0, ptrace.EVENT_STOP):
            ptrace.mend(tid, self._patient)
        ptrace.resume(tid, 0 if event else number)

    def _forget(self, tid: int) -> None:
        self._threads.pop(tid, None)
        self._held.pop(tid, None)
        self._inside.discard(tid)
        self._fresh.discard(tid)
        self._failing.discard(tid)

    def _settle(self, tid: int) -> None:
        # At the entry a seccomp filter has its say after us, and may have answered the number -1 itself.
        if tid in self._failing and ptrace.info[0] & 0xFF == ptrace.EXIT:
            self._failing.remove(tid)
            ptrace.answer(tid, self._error)

    def _strikes(self, tid: int, calls: dict[int, Call]) -> bool:
        hit = self._decider.decide(tid, calls, ptrace.info[3], ptrace.info[4:10].tolist())
        if hit is None:
            return False
        if self._error:
            ptrace.fail(tid, self._error)
            self._inside.discard(tid)  # its exit is looked at
            self._failing.add(tid)
        _, delay = hit
        if delay > 0:
            self._holds += 1
            self._held[tid] = self._holds
            heappush(self._due, (time.monotonic_ns() + delay, self._holds, tid))
            self._wind()
        return delay > 0

    def _wind(self) -> None:
        left = (self._due[0][0] - time.monotonic_ns()) / 1e9 if self._due else _TICK
        signal.setitimer(signal.ITIMER_REAL, min(max(left, 1e-6), _TICK), _AGAIN if self._due else _TICK)

    def _tick(self) -> None:
        self._rung = False
        now = time.monotonic_ns() if self._decider.rule.leased() else None
        while self._due and (now is None or self._due[0][0] <= now):
            _, number, tid = heappop(self._due)
            if self._held.get(tid) == number:
                del self._held[tid]
                ptrace.resume(tid)
        self._wind()
        self._listen()
        self._announce()

    def _listen(self) -> None:
        try:
            said = os.read(0, 1 << 16)
        except BlockingIOError:
            return
        if not said:
            self._over = True
        self._hear(said)

    def _hear(self, said: bytes) -> None:
        *lines, self._said = (self._said + said).split(b"\n")
        for pids in map(json.loads, lines):
            self._seize_all(pids)

    def _announce(self) -> None:
        if not self._ready and (not self._fresh or time.monotonic() - self._begun > _PATIENCE):
            self._ready = True
            os.write(1, b"ready\n")

    def _seize_all(self, pids: list[int]) -> None:
        self._ready, self._begun = False, time.monotonic()
        for pid in pids:
            while sum(self._seize(tid, pid) for tid in self._unknown(pid)):
                pass  # a thread that was not yet traced may have made another one
        self._announce()

    def _unknown(self, pid: int) -> list[int]:
        try:
            found = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        except OSError:
            found = []
        return [tid for tid in found if tid not in self._threads and pid not in self._exempt]

    def _seize(self, tid: int, pid: int) -> bool:
        problem = ptrace.seize(tid)
        tracer = ptrace.of_status(tid, "TracerPid:") if problem else ""
        if problem == errno.ESRCH or (problem and ptrace.of_status(tid, "State:") in ("", "Z", "X")):
            return False
        if problem and tracer != str(os.getpid()):
            raise Refused(f"{pid} {tracer or 0} {problem}")
        self._threads[tid] = pid
        if not problem:  # otherwise it is the child of a thread that is traced, and stops by itself
            self._fresh.add(tid)
            ptrace.interrupt(tid)
        return True

    def _detach(self) -> None:
        for tid in self._held:
            ptrace.detach(tid)
        left = {tid for tid in self._threads if tid not in self._held and ptrace.interrupt(tid)}
        deadline = time.monotonic() + _PATIENCE
        while left and time.monotonic() < deadline:
            tid = ptrace.wait()
            if tid > 0:
                left -= self._let_go(tid, ptrace.status[0])
            elif ctypes.get_errno() == errno.ECHILD:
                return

    def _let_go(self, tid: int, status: int) -> set[int]:
        event, number = status >> 16, status >> 8 & 0xFF
        if status & 0xFF != 0x7F:
            return {tid}
        if status == ptrace.SYSCALL_STOP:
            ptrace.look(tid)
            self._settle(tid)
            if ptrace.info[0] & 0xFF != ptrace.ENTRY and ptrace.interrupt(tid):
                ptrace.resume(tid)  # any stop takes the place of one that was asked for; only there
                return set()  # can a call be mended
            event = ptrace.EVENT_STOP
        elif event in (0, ptrace.EVENT_STOP):
            ptrace.mend(tid, self._patient)
        both = {tid, ptrace.message(tid)} if event == ptrace.EVENT_EXEC else {tid}
        ptrace.detach(tid, 0 if event else number)
        return both
