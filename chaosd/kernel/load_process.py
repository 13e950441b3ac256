"""The process that is the load: it burns CPU time, holds memory or fills a file system.

It needs the standard library alone, so that it starts in some 20 ms under ``python -I -S``. The
engine tells it by a shared page how strong it is to be, and until when; it ends with the engine
(PR_SET_PDEATHSIG, and the end of its standard input), and everything it holds goes with it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

NAME = "chaosd-load"
"""What the kernel calls it (comm), and by what it is found."""

_STRENGTH = struct.Struct("dd")  # until when, in CLOCK_BOOTTIME seconds, and the level, 0 to 1
_COUNTS = struct.Struct("qq")  # asked for at most, and had at most

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_TICK = 0.02
_PERIOD = 0.02  # of the duty cycle; a CPU is given out in slices of a few ms (EEVDF's base slice is 3 ms)
_ARREARS = 0.1  # CPU seconds that are made up for, when others had the CPU; more is given up
_CHUNK = 4 << 20
_CHUNKS_A_TICK = 16
_EXTENT, _BLOCK = 256 << 20, 4096
_WRITTEN = 16 << 20  # what is written in one tick where extents cannot be had
_FULL_FOR = 1.0
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)  # open(2), of old or simple ones
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Page:
    """The memory that the engine and its load share: orders in it, and counts of what was had.

    Args:
        fd: of a file in memory.
        workers: how many parts count by themselves.
    """

    def __init__(self, fd: int, workers: int) -> None:
        self._size = _STRENGTH.size + workers * _COUNTS.size
        if os.fstat(fd).st_size < self._size:
            os.ftruncate(fd, self._size)
        self._memory = mmap.mmap(fd, self._size)

    def order(self, until: float, level: float) -> None:
        """Be so strong (0 to 1) until a moment of CLOCK_BOOTTIME, in seconds; 0 from then on."""
        _STRENGTH.pack_into(self._memory, 0, until, level)

    def level(self) -> float:
        """How strong to be now."""
        until, level = _STRENGTH.unpack_from(self._memory)
        return float(level) if time.clock_gettime(time.CLOCK_BOOTTIME) < until else 0.0

    def count(self, worker: int, asked: float, had: float) -> None:
        """Say what a part was asked for, and what it had at most."""
        at = _STRENGTH.size + worker * _COUNTS.size
        _COUNTS.pack_into(self._memory, at, int(asked), int(had))

    def counts(self) -> tuple[int, int]:
        """The same, added up."""
        parts = list(_COUNTS.iter_unpack(self._memory[_STRENGTH.size : self._size]))
        return sum(asked for asked, _ in parts), sum(had for _, had in parts)

    def close(self) -> None:
        """Let go of it."""
        self._memory.close()


def available() -> int:
    """MemAvailable of the host, in bytes (proc_meminfo(5))."""
    with open("/proc/meminfo", "rb") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"MemAvailable:"))


def main() -> None:
    """Get ready, wait for the word to begin, and be the load until standard input ends."""
    parent, page, work = int(sys.argv[4]), int(sys.argv[5]), json.loads(sys.argv[6])
    _settle(parent, signal.SIGKILL)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as adjust:
        adjust.write("1000")
    _say("awake")
    if os.read(0, 1) != b"\n":
        return
    try:
        {"cpu": _burn, "memory": _hold, "disk": _fill}[work["type"]](work, Page(page, workers(work)))
    except OSError as error:
        raise SystemExit(f"{error.strerror}") from None


def workers(work: dict[str, Any]) -> int:
    """How many parts a load has that count by themselves."""
    return len(work.get("shares", [0]))


def _settle(parent: int, number: int) -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
    prctl(_PR_SET_NAME, NAME.encode())


def _say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


def _ticks() -> Iterator[None]:
    while not select.select([0], [], [], _TICK)[0]:
        yield


def _burn(work: dict[str, Any], page: Page) -> None:
    os.sched_setaffinity(0, work["cpus"] or range(os.sysconf("SC_NPROCESSORS_CONF")))
    signal.signal(signal.SIGCHLD, lambda *_: os._exit(1))  # one that was killed takes the others along
    supervisor = os.getpid()
    _say("ready")  # before the rest, which takes its time in a cgroup that gets little
    for worker, share in enumerate(work["shares"]):
        if os.fork() == 0:
            _settle(supervisor, signal.SIGKILL)
            _work(page, worker, share)
    for _ in _ticks():
        pass


def _work(page: Page, worker: int, share: float) -> None:
    clock, used = time.monotonic, time.process_time
    due = used()
    asked = had = 0.0
    length = _PERIOD
    while True:
        began, before = clock(), used()
        wanted = share * page.level() * length
        due = min(due, before + _ARREARS) + wanted if wanted else before
        while used() < due and clock() < began + _PERIOD:
            for _ in repeat(None, 1000):
                pass
        if wanted:
            asked, had = asked + wanted, had + used() - before
            page.count(worker, asked * 1000, had * 1000)
        time.sleep(max(began + _PERIOD - clock(), 0))
        length = _PERIOD + max(clock() - began - _PERIOD, 0)


def _hold(work: dict[str, Any], page: Page) -> None:
    # What is held must be neither swapped out nor given back; it is locked as it is touched.
    ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    _say("ready")
    memory, most, wanted = _Memory(work["floor"]), 0, 0.0
    began = 0.0
    for _ in _ticks():
        level = page.level()
        began = began or (time.monotonic() if level else 0.0)
        goal = level * _grown(work, time.monotonic() - began)
        memory.become(int(goal))
        most, wanted = max(most, memory.held), max(wanted, goal)
        page.count(0, wanted, most)


def _grown(work: dict[str, Any], elapsed: float) -> float:
    if not work["every"]:
        return float(work["size"])
    return float(min(work["size"], work["step"] * (1 + elapsed // work["every"])))


class _Memory:
    """Touched pages, in chunks that are taken and given back one by one."""

    def __init__(self, floor: int) -> None:
        self.held = 0
        self._floor = floor
        self._chunks: list[mmap.mmap] = []

    def become(self, goal: int) -> None:
        """Go some way towards so many bytes, as far as the host has memory to spare."""
        while self._chunks and (self.held > goal or available() < self._floor):
            chunk = self._chunks.pop()
            self.held -= len(chunk)
            chunk.close()
        for _ in range(_CHUNKS_A_TICK):
            size = min(goal - self.held, _CHUNK) // mmap.PAGESIZE * mmap.PAGESIZE
            if size <= 0 or available() - size < self._floor or not self._take(size):
                break

    def _take(self, size: int) -> bool:
        try:
            chunk = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:  # ENOMEM, where memory is not overcommitted
            return False
        chunk[:: mmap.PAGESIZE] = bytes(size // mmap.PAGESIZE)  # one byte makes a page ours
        self._chunks.append(chunk)
        self.held += size
        return True


def _fill(work: dict[str, Any], page: Page) -> None:
    file = _File(work)
    _say("ready")
    most, wanted, room = 0, 0.0, -1
    for _ in _ticks():
        level = page.level()
        if level and room < 0:
            room = max(file.room(), 0)
        goal = level * max(room, 0)
        file.become(int(goal))
        most, wanted = max(most, min(file.allocated(), int(goal))), max(wanted, goal)
        page.count(0, wanted, most)


class _File:
    """A file without a name, which takes space that nobody else gets."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._fd = _unlinked(work["folder"])
        self._size = 0
        self._leave: int = work["leave"]
        self._reserve, self._floor = work["reserve"], work["floor"]
        self._by_extent = True
        self._full_until = 0.0
        self._fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        self._fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        self._pattern = os.urandom(1 << 20)  # which no file system can compress

    def room(self) -> int:
        """Bytes that may still be taken from the file system."""
        found = os.fstatvfs(self._fd)
        return (found.f_bfree if self._reserve else found.f_bavail) * found.f_frsize - self._leave

    def allocated(self) -> int:
        """Bytes that it takes up (st_blocks is in units of 512, inode(7))."""
        return os.fstat(self._fd).st_blocks * 512

    def become(self, goal: int) -> None:
        """Go some way towards so many bytes."""
        if self._floor and available() < self._floor:
            goal = min(goal, max(self._size - _EXTENT, 0))
        if goal < self._size:
            os.ftruncate(self._fd, goal)
        elif time.monotonic() > self._full_until:
            self._grow(min(goal - self._size, self.room(), _EXTENT))
        self._size = os.fstat(self._fd).st_size

    def _grow(self, size: int) -> None:
        if size <= 0 or (self._floor and available() - size < self._floor):
            return
        while size > 0:
            try:
                self._extend(size)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                size = size // 2 if size > _BLOCK else 0
            else:
                return
        self._full_until = time.monotonic() + _FULL_FOR

    def _extend(self, size: int) -> None:
        if self._by_extent and self._fallocate(self._fd, 0, self._size, size):
            number = ctypes.get_errno()
            self._by_extent = number not in (errno.EOPNOTSUPP, errno.ENOSYS)
            if self._by_extent:
                raise OSError(number, os.strerror(number))
        if not self._by_extent:
            self._write(min(size, _WRITTEN))

    def _write(self, size: int) -> None:
        while size > 0:
            size -= os.pwrite(self._fd, self._pattern[:size], os.fstat(self._fd).st_size)


def _unlinked(folder: int) -> int:
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    name = f".{NAME}-{os.getpid()}"
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    os.unlink(name, dir_fd=folder)
    return fd
