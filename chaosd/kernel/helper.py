"""Processes of ours that run a module of this folder: how they start, and how others find and end them.

Each needs the standard library and its neighbors here alone, so that it starts in some 20 ms under
``python -I -S``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
_END_WITHIN = 2.0


def command(module: str, *facts: object) -> list[str]:
    """What runs ``main`` of a module; the facts, its first arguments, tell it from others in /proc."""
    return [sys.executable, "-I", "-S", "-c", _begin(module), _ROOT, *map(str, facts)]


def _begin(module: str) -> str:
    # As a module of the package it is compiled once, which as a script it would be at each start.
    return f"import sys; sys.path.append(sys.argv[1]); from chaosd.kernel.{module} import main; main()"


def running(module: str, *facts: object) -> Iterator[int]:
    """The pids of those on this host that run a module and have these facts, whoever started them."""
    wanted = command(module, *facts)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")[: len(wanted)]
            # not by the interpreter and the root: another installation of chaosd may look for it
            if [*words[4:5], *words[6:]] == [wanted[4], *wanted[6:]] and _is_ours(file.fileno()):
                yield int(pid)


def _is_ours(fd: int) -> bool:
    return os.stat(fd).st_uid == os.geteuid()


def end(what: str, found: Callable[[], Iterable[int]], first: int = signal.SIGTERM) -> bool:
    """Have processes of ours end, and wait until they are no longer found.

    Args:
        what: they are, in a word.
        found: looks for their pids.
        first: the signal they get; those that do not heed it within 1.5 s get SIGKILL.

    Returns:
        Whether there were any.

    Raises:
        OSError: one is still found after 2 s.
    """
    any_found, stop = False, time.monotonic() + _END_WITHIN
    while left := list(found()):
        any_found = True
        late = time.monotonic() > stop - _END_WITHIN / 4
        for pid in left:
            send(pid, signal.SIGKILL if late else first, found)
        if time.monotonic() > stop:
            raise OSError(errno.EBUSY, f"{what} {left[0]} does not end")
        time.sleep(0.02)
    return any_found


def send(pid: int, number: int, found: Callable[[], Iterable[int]]) -> bool:
    """Send a signal to a process that is still found, and let it go on if somebody has stopped it."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            if pid in found():  # still, now that the pidfd holds it
                signal.pidfd_send_signal(fd, number)
                signal.pidfd_send_signal(fd, signal.SIGCONT)
                return True
        finally:
            os.close(fd)
    return False
