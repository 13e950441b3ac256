"""A process that has everything imported and nothing else going on, from which engines are forked.

The API's process has threads and an event loop, which no engine should begin life with. The zygote
is forked before these exist, waits for orders, and forks a child for each: a run, a plan, a look at
the host. A child tells its story in JSON lines through a socket that came with the order.

When the API's process dies, the kernel kills the zygote, and sends SIGTERM to every engine
(PR_SET_PDEATHSIG), which puts its run back, or has a watchdog that does.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from chaosd.kernel.edit import MARK

Tell = Callable[[dict[str, Any]], None]
Deed = Callable[[dict[str, Any], Tell], int]
"""What a child does: given the order and a way to tell records; returns its exit status."""

OVER = signal.SIGUSR1
"""Tells the child of a run that its faults have lasted long enough; others pass over it."""

_PAUSE = 0.1  # seconds without an order or a death, so that what is made ready keeps nobody waiting
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Zygote:
    """The API's end; ``pidfd`` becomes readable when it dies.

    Args:
        deeds: what children can be asked to do, by name.
        stock: has things ready for children; called at first, and when some may have been used.
    """

    def __init__(self, deeds: Mapping[str, Deed], stock: Callable[[], None]) -> None:
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        gc.freeze()  # what is there now is shared with every child, and not to be copied for counting it
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._end.close()
            try:
                _call_myself(f"{MARK}-zygote", signal.SIGKILL, parent)
                _serve(theirs, deeds, stock)
            finally:
                os._exit(0)
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)

    def order(self, deed: str, patience: float, **order: Any) -> tuple[int, socket.socket]:
        """Have a child do something.

        Args:
            deed: its name.
            patience: for so many seconds the child waits for us to take what it tells; then it goes on
                without telling.
            order: for the deed.

        Returns:
            A pidfd of the child, and the socket that it speaks through; its end is the end of the child.

        Raises:
            OSError: the zygote is dead.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        text = os.memfd_create("order")  # a message has a limit, a file has none
        try:
            with theirs, open(text, "wb", closefd=False) as file:
                file.write(msgspec.json.encode({"deed": deed, "patience": patience, "order": order}))
                file.flush()
                socket.send_fds(self._end, [b"o"], [theirs.fileno(), text])
            _, fds, _, _ = socket.recv_fds(self._end, 1, 1)
            if not fds:
                raise BrokenPipeError("the process that engines are forked from is dead")
        except OSError:
            ours.close()
            raise
        finally:
            os.close(text)
        return fds[0], ours

    def alive(self) -> bool:
        """Whether it can be given orders."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def close(self) -> None:
        """End it, and every run with it; each puts itself back."""
        self._end.close()
        os.close(self.pidfd)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(end: socket.socket, deeds: Mapping[str, Deed], stock: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    died, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    watched: list[Any] = [end, died]
    stock()
    pause: float | None = None
    while True:
        ready, _, _ = select.select(watched, [], [], pause)
        pause = _PAUSE if ready else None
        if not ready:
            stock()
        if died in ready:
            os.read(died, 4096)
            _bury()
        if end in ready and not _fork(end, deeds):
            return


def _bury() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(end: socket.socket, deeds: Mapping[str, Deed]) -> bool:
    text, fds, _, _ = socket.recv_fds(end, 1, 2)
    if not text:
        return False
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        end.close()
        _do(fds[0], fds[1], deeds, parent)
    pidfd = os.pidfd_open(pid)  # of a child that nobody has buried yet, so it is this one
    socket.send_fds(end, [b"p"], [pidfd])
    for fd in (*fds, pidfd):
        os.close(fd)
    return True


def _do(story_fd: int, order_fd: int, deeds: Mapping[str, Deed], parent: int) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(OVER, signal.SIG_IGN)
        # what is called chaosd-... is not traced, and its children in trials are called as it is
        _call_myself(MARK, signal.SIGTERM, parent)
        os.setsid()
        with open(order_fd, "rb") as file:
            file.seek(0)
            order = msgspec.json.decode(file.read())
        with socket.socket(fileno=story_fd) as story:
            status = deeds[order["deed"]](order["order"], _teller(story, order["patience"]))
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _teller(story: socket.socket, patience: float) -> Tell:
    story.settimeout(patience)  # a run must not wait for who watches it
    listens = [True]

    def tell(record: dict[str, Any]) -> None:
        if listens:
            try:
                story.sendall(msgspec.json.encode(record) + b"\n")
            except OSError:
                listens.clear()  # what comes after a line that was torn could not be read

    return tell


def _call_myself(name: str, at_death: signal.Signals, parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, at_death, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it has died before this was said
