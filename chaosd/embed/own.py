"""Runs by a process of this one's own, for root.

The kernel tells that process when the thread that waits for it dies, and thereby whenever this
process does, in whatever way (PR_SET_PDEATHSIG, prctl(2)); then it puts its run back. Its own death
is its watchdog's matter.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chaosd.errors import of_data
from chaosd.journal import Record
from chaosd.orchestrate import apart

_CHILD = ("-P", "-m", "chaosd.embed.child")  # -P: no module of the working directory gets into it
_ONE = (1).to_bytes(8, sys.byteorder)  # what is added to an eventfd


class _Stop:
    """An end that any thread may ask for, see ``apart.Asked``."""

    def __init__(self) -> None:
        self.number = 0
        self._ours, self._theirs = socket.socketpair()

    def fileno(self) -> int:
        return self._theirs.fileno()

    def ask(self) -> None:
        self.number = signal.SIGTERM
        with suppress(OSError):  # closed: it is over
            self._ours.send(b"\0", socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class Own:
    """A run by a process of its own.

    Args:
        order: for ``child``.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._stop = _Stop()
        self._end, self._theirs = socket.socketpair()
        # an eventfd, for that says nothing by being closed; a file, which cannot be another one by then
        self._over = io.FileIO(os.eventfd(0), "wb")

    def follow(self, note: Callable[[Record], None]) -> None:
        """Do it, note every record, and return when it is over; the thread must live as long.

        Raises:
            ChaosdError: as ``apart.follow`` has it.
        """
        try:
            with self._theirs:
                words = [sys.executable, *_CHILD]
                # a session of its own: Ctrl-C is for the program, which ends the run then
                process = subprocess.Popen(
                    words,
                    stdin=self._theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    pass_fds=(self._over.fileno(),),
                    start_new_session=True,
                )
            with process, suppress(ConnectionError):
                self._follow(process.pid, note)
        finally:
            self._end.close()
            self._over.close()
            self._stop.close()

    def _follow(self, pid: int, note: Callable[[Record], None]) -> None:
        child = os.pidfd_open(pid)
        try:
            order = self._order | {"parent": os.getpid(), "until": self._over.fileno()}
            self._end.sendall(json.dumps(order, default=str).encode() + b"\n")
            self._end.setblocking(False)
            apart.follow(self._end.fileno(), child, self._stop, note)
        finally:
            os.close(child)

    def end(self) -> None:
        """Lift the faults now, as if their time were over."""
        with suppress(OSError, ValueError):  # closed: it is over
            self._over.write(_ONE)

    def stop(self) -> None:
        """End the run, whatever it is at."""
        self._stop.ask()


def ask(order: dict[str, Any]) -> Any:
    """What a process of its own answers to something that changes nothing.

    Raises:
        ChaosdError: it has refused.
    """
    text = json.dumps(order, default=str) + "\n"
    done = subprocess.run(
        [sys.executable, *_CHILD], input=text, stdout=subprocess.PIPE, text=True, check=True
    )
    told = json.loads(done.stdout)
    if "refused" in told:
        raise of_data(told["refused"])
    return told["answer"]
