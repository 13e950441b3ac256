"""A second process that puts everything back when the engine cannot.

It is forked before the first edit, with every module it needs already imported, stands by until it is
told which journal to watch, and is ready before that edit is promised. It waits for the end of its
socket to the engine (any death of the engine closes it), for the deadline of the run, and for the
engine's pulse to stop; an engine that is overdue or hung is killed, by pidfd. It counts looks of its
own rather than seconds, for both stand still together when the host sleeps, or has no time for either.
Then it takes the journal's lock and puts back what is open.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from chaosd import timer
from chaosd.errors import ChaosdError
from chaosd.journal import Journal
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, hierarchies, of_process, root
from chaosd.kernel.cgroup_group import Move, Subgroup
from chaosd.kernel.edit import MARK, Edit
from chaosd.kernel.process import ProcessRef
from chaosd.restore import close_out

GRACE = 5.0
"""Seconds that an engine may overrun its deadline, or go without a pulse, before it is killed."""
LOOKS = 10
"""How often its pulse is looked at in that time."""
RETRY_FOR = 60.0
"""Seconds for which an edit that would not go back is tried again."""
_START_WITHIN = 15.0  # seconds; nothing is changed until then
_LOCK_TIMEOUT = 30.0
_READY, _DONE, _YOURS = b"ready", b"done", b"yours"
_PATH_MAX = 4096  # linux/limits.h
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT, _PR_SET_NAME = 1, 2, 4, 15


class Pulse:
    """The engine's sign of life: two clock readings in memory that both processes share.

    ``beat`` and ``deadline`` are CLOCK_BOOTTIME seconds, which go on counting while the host
    sleeps; a deadline of 0 means that the clock of the run has not been started.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.beat()

    def beat(self) -> None:
        """Say that the engine is alive."""
        struct.pack_into("d", self._memory, 0, now())

    def set_deadline(self, at: float) -> None:
        """Say when everything must be put back, in CLOCK_BOOTTIME seconds."""
        struct.pack_into("d", self._memory, 8, at)

    def left(self) -> float:
        """Seconds until the deadline; 0 while there is none."""
        deadline = self.read()[1]
        return max(deadline - now(), 0.0) if deadline else 0.0

    def read(self) -> tuple[float, float]:
        """The last sign of life, and the deadline."""
        beat, deadline = struct.unpack_from("dd", self._memory)
        return beat, deadline


class Patience:
    """Runs out when an engine was seen to be silent, or overdue, in as many looks as fit into ``GRACE``."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._seen = 0.0
        self._silent = self._late = 0

    def look(self) -> str:
        """Look once more; why the engine must be taken for hung, or nothing."""
        beat, deadline = self._pulse.read()
        self._silent = self._silent + 1 if beat == self._seen else 0
        self._late = self._late + 1 if deadline and now() > deadline else 0
        self._seen = beat
        if self._silent >= LOOKS:
            return f"no pulse for {now() - beat:.1f} s"
        if self._late >= LOOKS:
            return f"{now() - deadline:.1f} s over its deadline"
        return ""


def now() -> float:
    """CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watchdog:
    """The engine's end: its watchdog's process, and the socket and the pulse that hold the two together."""

    def __init__(self, process: ProcessRef, pulse: Pulse, end: socket.socket) -> None:
        self.process = process
        self.pulse = pulse
        self._run = ""
        self._end = end
        self._ready = False

    def fileno(self) -> int:
        """Readable when the watchdog has died."""
        return self._end.fileno()

    def watch(self, journal: Path) -> None:
        """Have it begin; ``wait_ready`` before anything is changed.

        Args:
            journal: the journal's path; its lock is held by the caller.
        """
        self._run = journal.stem
        with suppress(OSError):  # who waits for it will be told that it has died
            self._end.send(os.fsencode(journal))

    def wait_ready(self) -> None:
        """Wait until it is ready, before the first promise (``ChaosdError`` if it does not get ready)."""
        if self._ready:
            return
        self._end.settimeout(_START_WITHIN)
        try:
            self._ready = self._end.recv(16) == _READY
        except OSError:
            self._ready = False
        if not self._ready:
            raise ChaosdError(
                "the watchdog did not start, so nothing was changed", hint="is there memory left?"
            )
        self._end.settimeout(None)

    def dead(self) -> bool:
        """Whether the watchdog has gone, so that the engine is on its own."""
        try:
            self.wait_ready()
        except ChaosdError:
            return True
        return bool(select.select([self._end], [], [], 0)[0])

    def dismiss(self) -> None:
        """Send the watchdog home: everything is put back and written down."""
        with suppress(OSError):
            self._end.send(_DONE)
        self._end.close()
        with suppress(ChildProcessError):
            os.waitpid(self.process.pid, 0)
        timer.disarm(self._run)  # where it died before it could

    def hand_over(self) -> None:
        """Leave it to the watchdog to go on trying what would not go back."""
        with suppress(OSError):
            self._end.send(_YOURS)
        self._end.close()


def apart(run: str, process: ProcessRef) -> tuple[Edit, ...]:
    """The edits that give a watchdog a cgroup of its own.

    There it survives what ends everything in the engine's cgroup at once, such as the end of a
    login session. None where chaosd may not make cgroups.
    """
    for key in (UNIFIED, "name=systemd"):
        top = hierarchies().get(key)
        if top is not None and os.access(top, os.W_OK):
            group = Subgroup(root(key), f"{MARK}-{run}")
            home = CgroupRef.at(of_process(process.pid)[key])
            return group, Move((process,), home, group.path)
    return ()


_standing_by: list[Watchdog] = []


def stand_by() -> None:
    """Fork the watchdog of the run that this process is going to do, before it has anything to do."""
    _standing_by.append(start())


def take() -> Watchdog:
    """The watchdog that stands by in this process, unless it has died meanwhile; else a new one."""
    while _standing_by:
        found = _standing_by.pop()
        if not select.select([found], [], [], 0)[0]:
            return found
    return start()


def start() -> Watchdog:
    """Fork a watchdog; it does nothing until it is told what to ``watch``, or this process ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    engine, pulse = ProcessRef.of(os.getpid()), Pulse()
    pid = os.fork()
    if pid == 0:
        try:
            _main(pulse, engine, theirs)
        except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
            os._exit(1)
        os._exit(0)
    theirs.close()
    return Watchdog(ProcessRef.of(pid), pulse, ours)


def _main(pulse: Pulse, engine: ProcessRef, end: socket.socket) -> None:
    _stand_apart(keep=end.fileno())
    engine_fd = engine.pidfd()
    if not (told := end.recv(_PATH_MAX)):
        return  # the engine has ended and there was no run
    path = Path(os.fsdecode(told))
    with suppress(OSError):  # an engine that has died by now is noticed below
        end.send(_READY)
    last = timer.Timer(path.stem)
    word, why = _wait(end, pulse, last)
    if word == _DONE:
        last.disarm()
        return
    if word != _YOURS:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(engine_fd, signal.SIGKILL)
    journal = Journal.take_over(path, timeout=_LOCK_TIMEOUT)
    stop = now() + RETRY_FOR
    while journal is not None and close_out(journal, "killed", why) and now() < stop:
        time.sleep(1)
    if not path.exists():
        last.disarm()


def _wait(end: socket.socket, pulse: Pulse, last: timer.Timer) -> tuple[bytes, str]:
    patience = Patience(pulse)
    while True:
        if select.select([end], [], [], GRACE / LOOKS)[0]:
            word = end.recv(16)
            return word, "the engine could not put everything back" if word == _YOURS else "the engine died"
        if why := patience.look():
            return b"", f"the engine hung: {why}"
        if left := pulse.left():
            last.arm(left)


def _stand_apart(keep: int) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    # The engine's lock and everything else that dies with it must not be kept open here.
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.chdir("/")
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, b"chaosd-watchdog", 0, 0, 0)
    # ONFAULT keeps what is in memory there without copying the pages shared with the engine first.
    libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
