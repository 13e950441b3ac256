"""A process that has everything imported and nothing else going on, from which engines are forked.

The API's process has threads and an event loop, which no engine should begin life with. The zygote
is forked before these exist, waits for orders, and forks a child for each: a run, a plan, a look at
the host. A child tells its story in JSON lines through a socket that came with the order.

When the API's process dies, the zygote sees the end of its socket and ends; the kernel then sends
SIGTERM to every engine (PR_SET_PDEATHSIG), which puts its run back, or has a watchdog that does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from chaosd.kernel.edit import MARK

Deed = Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], int]
"""What a child does: given the order and a way to tell records; returns its exit status."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_LARGEST = 1 << 20
_PATIENCE = 0.5


class Zygote:
    """The API's end.

    Args:
        deeds: what children can be asked to do, by name.
    """

    def __init__(self, deeds: Mapping[str, Deed]) -> None:
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        gc.freeze()  # what is there now is shared with every child, and not to be copied for counting it
        self.pid = os.fork()
        if self.pid == 0:
            self._end.close()
            try:
                _serve(theirs, deeds)
            finally:
                os._exit(0)
        theirs.close()

    def order(self, deed: str, **order: Any) -> tuple[int, socket.socket]:
        """Have a child do something.

        Args:
            deed: its name.
            order: for the deed.

        Returns:
            The child's pid, and the socket that it speaks through; its end is the end of the child.

        Raises:
            OSError: the zygote is dead, or the order is over a megabyte.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            text = json.dumps({"deed": deed, **order}).encode()
            socket.send_fds(self._end, [text], [theirs.fileno()])
        answer = self._end.recv(64)
        if not answer:
            ours.close()
            raise OSError("the process that engines are forked from is dead")
        return int(answer), ours

    def close(self) -> None:
        """End it, and every run with it; each puts itself back."""
        self._end.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(end: socket.socket, deeds: Mapping[str, Deed]) -> None:
    _call_myself("zygote", signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for: their socket says it all
    while True:
        text, fds, _, _ = socket.recv_fds(end, _LARGEST, 1)
        if not text:
            return
        pid = os.fork()
        if pid == 0:
            end.close()
            _do(json.loads(text), fds[0], deeds)
        os.close(fds[0])
        end.send(str(pid).encode())


def _do(order: dict[str, Any], fd: int, deeds: Mapping[str, Deed]) -> None:
    status = 1
    try:
        _call_myself("engine", signal.SIGTERM)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        with socket.socket(fileno=fd) as story:
            story.settimeout(_PATIENCE)  # a run must not wait for who watches it
            status = _tell(order, story, deeds)
    finally:
        os._exit(status)


def _tell(order: dict[str, Any], story: socket.socket, deeds: Mapping[str, Deed]) -> int:
    def tell(record: dict[str, Any]) -> None:
        story.sendall(json.dumps(record).encode() + b"\n")

    return deeds[order.pop("deed")](order, tell)


def _call_myself(what: str, at_death: signal.Signals) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, f"{MARK}-{what}".encode(), 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, at_death, 0, 0, 0)
