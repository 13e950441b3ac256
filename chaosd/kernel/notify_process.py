"""The supervisor's own process: answers for the calls that a seccomp filter stops.

A filter cannot be taken away, and a call that nobody can answer for gets ENOSYS (kernel/seccomp.c). So
this process outlives its engine: when that has gone, or says so, every call is let pass, until no process
is left under the filter. A second one, the keeper, holds the same listener; should the first one be killed,
it lets go what that held, passes everything on from then on, and makes a keeper of its own.

What is being answered for lies in memory that both share: the kernel itself writes each notification
there, so that none is lost whenever the first one dies. Needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import time
from heapq import heappop, heappush
from mmap import mmap
from typing import Any

from chaosd.kernel import ptrace
from chaosd.kernel.tracer_decider import Decider

DECIDES, PASSES, KEEPS = "chaosd-notify", "chaosd-passes", "chaosd-keeper"
"""What the process is called while it decides, when it lets everything pass, and while it waits."""

SLOTS = 16384
"""Calls that can be held at once; for one more, that which is due first is let go."""

_RECV, _SEND, _ID_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104  # linux/seccomp.h
_CONTINUE, _SYNC_WAKE_UP = 1, 1
_SIZE = 80  # struct seccomp_notif; the id first, then pid, flags, number, arch, ip and six arguments
_EMPTY = bytes(_SIZE)
_TICK = 0.05  # seconds between two looks at the lease while calls are held
_PR_SET_NAME = 15
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4

_libc = ctypes.PyDLL(None, use_errno=True)
_ioctl = _libc.ioctl
_ioctl.argtypes, _ioctl.restype = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p), ctypes.c_int


class Notifications:
    """The stopped calls of one listener, and the answers to them.

    Args:
        listener: its descriptor.
    """

    def __init__(self, listener: int) -> None:
        self.listener = listener
        self._memory = mmap(-1, SLOTS * _SIZE)  # shared with the children of this process
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._longs, self._ints = memoryview(self._memory).cast("Q"), memoryview(self._memory).cast("I")
        self._free = list(range(SLOTS))
        self._response = ctypes.create_string_buffer(24)  # struct seccomp_notif_resp: id, val, error, flags
        self._respond_at = ctypes.addressof(self._response)
        self._response_id = memoryview(self._response).cast("B").cast("Q")
        self._response_ints = memoryview(self._response).cast("B").cast("i")
        _ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)  # Linux 6.6: both are never busy at once

    def receive(self) -> int:
        """The slot of the next stopped call; -1 when its thread was killed meanwhile. One must be waiting."""
        slot = self._free[-1]
        if _ioctl(self.listener, _RECV, self._at + slot * _SIZE) < 0:
            self._memory[slot * _SIZE : (slot + 1) * _SIZE] = _EMPTY
            return -1
        return self._free.pop()

    def full(self) -> bool:
        """Whether there is room for no other one than the next."""
        return len(self._free) < 2

    def of(self, slot: int) -> tuple[int, int, int, list[int]]:
        """Thread, AUDIT_ARCH, number and arguments of a stopped call."""
        ints, first = self._ints, slot * 20
        return (
            ints[first + 2],
            ints[first + 5],
            ints[first + 4],
            self._longs[slot * 10 + 4 : slot * 10 + 10].tolist(),
        )

    def still(self, slot: int) -> bool:
        """Whether its thread still waits for the answer, so that what was read of it was its own."""
        return bool(_ioctl(self.listener, _ID_VALID, self._at + slot * _SIZE) == 0)

    def answer(self, slot: int, error: int = 0) -> None:
        """Let the call be made, or fail with an errno; nothing happens if its thread was killed."""
        self._response_id[0] = self._longs[slot * 10]
        self._response_ints[4], self._response_ints[5] = -error, 0 if error else _CONTINUE
        _ioctl(self.listener, _SEND, self._respond_at)
        self._memory[slot * _SIZE : (slot + 1) * _SIZE] = _EMPTY
        self._free.append(slot)

    def let_go(self) -> None:
        """Let every call be made that another process has taken and not answered."""
        self._free = list(range(SLOTS))
        for slot in range(SLOTS):
            if self._longs[slot * 10]:
                self._free.remove(slot)
                self.answer(slot)


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
