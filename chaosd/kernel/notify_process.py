"""The supervisor's own process: answers for the calls that a seccomp filter stops.

A filter cannot be taken away, and a call that nobody can answer for gets ENOSYS (kernel/seccomp.c). So
this process outlives its engine: when that has gone, or says so, every call is let pass, until no process
is left under the filter. A second one, the keeper, holds the same listener; should the first one be killed,
it lets go what that held, passes everything on from then on, and makes a keeper of its own.

What is being answered for lies in memory that both share (``notify_calls``). It needs the standard
library alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import time
from heapq import heappop, heappush
from typing import Any

from chaosd.kernel import ptrace
from chaosd.kernel.notify_calls import Notifications
from chaosd.kernel.tracer_decider import Decider

DECIDES, PASSES, KEEPS = "chaosd-notify", "chaosd-passes", "chaosd-keeper"
"""What the process is called while it decides, when it lets everything pass, and while it waits."""

_TICK = 0.05  # seconds between two looks at the lease while calls are held
_PR_SET_NAME = 15
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4

_libc = ctypes.CDLL(None)


class Supervisor:
    """Answers for the calls of one listener, until nobody is under its filter any more.

    Args:
        notifications: the stopped calls.
        launched: the process that is not to be met before its program has begun.
        waiting: what that is called until then.
    """

    def __init__(self, notifications: Notifications, launched: int, waiting: str) -> None:
        self._calls = notifications
        self._launched, self._waiting = launched, waiting
        self._deciders: dict[int, Decider] = {}
        self._held: list[tuple[int, int, int, int]] = []  # when, a number, the slot, the errno
        self._holds = self._slot = 0
        self._keeper = self._woken = -1  # descriptors: of its process, and of a pipe that signals write to
        self._control: Any = None
        self._poll = select.poll()
        self._poll.register(notifications.listener, select.POLLIN)

    def run(self, control: Any) -> None:
        """Serve; ``control`` is the socket to the engine, or None when there is none any more."""
        self._control = control
        if control is not None:
            self._poll.register(control.fileno(), select.POLLIN)
        _call_it(PASSES)
        self._woken = _heed_nothing()
        self._poll.register(self._woken, select.POLLIN)
        self._keep()
        listener, poll = self._calls.listener, self._poll.poll
        while True:
            # the listener was the first to be registered: what others say comes before any call
            for fd, event in reversed(poll(None) if not self._held else self._patient()):
                if fd != listener:
                    self._other(fd)
                elif event & select.POLLIN:
                    self._meet()
                elif event & select.POLLHUP:
                    return

    def _patient(self) -> list[tuple[int, int]]:
        left = min(max(self._held[0][0] - time.monotonic_ns(), 0) / 1e9, _TICK)
        fds = [fd for fd in (self._calls.listener, self._control_fd(), self._keeper) if fd >= 0]
        select.select(fds, [], [], left)  # poll() rounds up to whole milliseconds
        now = time.monotonic_ns()
        leased = any(decider.rule.leased() for decider in self._deciders.values())
        while self._held and (not leased or self._held[0][0] <= now):
            *_, slot, error = heappop(self._held)
            self._calls.answer(slot, error if leased else 0)
        return self._poll.poll(0)

    def _control_fd(self) -> int:
        return self._control.fileno() if self._control is not None else -1

    def _meet(self) -> None:
        if self._calls.full() and self._held:
            *_, slot, error = heappop(self._held)
            self._calls.answer(slot, error)
        self._slot = slot = self._calls.receive()
        if slot < 0:
            return
        if not self._deciders:
            self._calls.answer(slot)
            return
        error, delay = self._decide(*self._calls.of(slot))
        if delay > 0:
            self._holds += 1
            heappush(self._held, (time.monotonic_ns() + delay, self._holds, slot, error))
        else:
            self._calls.answer(slot, error)

    def _decide(self, tid: int, arch: int, number: int, arguments: list[int]) -> tuple[int, int]:
        if self._launched and self._is_waiting(tid):
            return 0, 0
        error = delay = 0
        for decider in self._deciders.values():
            calls = decider.calls.get(arch)
            if calls and number in calls and (hit := decider.decide(tid, calls, number, arguments)):
                error, delay = error or hit[0], delay + max(hit[1], 0)
        return error, delay

    def _is_waiting(self, tid: int) -> bool:
        if tid != self._launched:
            return False
        try:
            with open(f"/proc/{tid}/comm", encoding="utf-8", errors="replace") as file:
                waits = file.read() == self._waiting + "\n"
        except OSError:
            return False
        if not waits:
            self._launched = 0
        return waits

    def _other(self, fd: int) -> None:
        if fd == self._keeper:
            os.close(fd)
            self._poll.unregister(fd)
            _reap()
            self._keep()
        elif fd == self._woken:
            os.read(fd, 4096)
            self._pass()
        elif self._control is not None:
            self._listen()

    def _listen(self) -> None:
        try:
            said, ancillary, _, _ = self._control.recvmsg(1 << 18, 64)
        except OSError:
            said, ancillary = b"", []
        if not said:
            self._pass()
            return
        order = json.loads(said)
        if "drop" in order:
            self._drop(order["drop"])
        else:
            page, hits, lease = memoryview(ancillary[0][2]).cast("i")
            given = {**order["add"], "page": page, "hits": hits, "lease": lease}
            self._deciders[order["index"]] = Decider(given, _group, lambda: self._calls.still(self._slot))
            os.close(page)
            os.close(lease)
            _call_it(DECIDES)
        self._control.send(b"ready")

    def _drop(self, index: int) -> None:
        self._deciders.pop(index, None)
        self._release()
        if not self._deciders:
            _call_it(PASSES)

    def _release(self) -> None:
        while self._held:
            self._calls.answer(heappop(self._held)[2])

    def _pass(self) -> None:
        self._deciders.clear()
        self._release()
        if self._control is not None:
            self._poll.unregister(self._control_fd())
            self._control.close()
            self._control = None
        _call_it(PASSES)

    def _keep(self) -> None:
        first = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            return  # no memory or no pid is left: this one stays alone
        if pid:
            self._keeper = os.pidfd_open(pid)
            self._poll.register(self._keeper, select.POLLIN)
            return
        if self._control is not None:
            self._control.close()
        os.close(self._woken)
        _heed_nothing()
        _speak_to_nobody()
        stay_in_memory()
        _call_it(KEEPS)
        _wait_for(first, self._calls.listener)
        self._calls.let_go()
        Supervisor(self._calls, 0, "").run(None)
        os._exit(0)


def _wait_for(first: int, listener: int) -> None:
    """Wait until the first one has died; ends this process when nobody is under the filter any more."""
    poll = select.poll()
    poll.register(listener, 0)  # of calls it is not told, so that it costs nothing
    try:
        pidfd = os.pidfd_open(first)
    except ProcessLookupError:
        return
    poll.register(pidfd, select.POLLIN)
    while os.getppid() == first:  # otherwise it has died before
        fds = [fd for fd, _ in poll.poll()]
        if pidfd in fds:
            break
        if listener in fds:
            os._exit(0)
    os.close(pidfd)


def _group(tid: int) -> int:
    return int(ptrace.of_status(tid, "Tgid:") or tid)


def _reap() -> None:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass


def stay_in_memory() -> None:
    """Need no disk to answer: one may be held up by the very faults. A child has to say so again."""
    _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)


def _call_it(name: str) -> None:
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _speak_to_nobody() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


def _heed_nothing() -> int:
    """Heed no signal but SIGTERM, which makes the descriptor that is returned readable."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    return read
