"""A process that has everything imported and nothing else going on, from which engines are forked.

The API's process has threads and an event loop, which no engine should begin life with. The zygote
is forked before these exist, waits for orders, and gives each to a child: a run, a plan, a look at
the host. A child tells its story in JSON lines through a socket that came with the order.

Whatever is to be quick has a child that was forked before its order: it has rehearsed it, so that it
has a memory of its own by then, with everything in it that it needs. There is never more than one for
a deed, and who finds none, or one that is not ready or dead, is served by a child forked then.

When the API's process dies, the kernel kills the zygote, and sends SIGTERM to every engine
(PR_SET_PDEATHSIG), which puts its run back, or has a watchdog that does; a child that has no order
yet dies of it.
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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

from chaosd.kernel.edit import MARK

Tell = Callable[[dict[str, Any]], None]
Deed = Callable[[dict[str, Any], Tell], int]
"""What a child does: given the order and a way to tell records; returns its exit status."""
Rehearsals = Mapping[str, Callable[[], None]]
"""What a child does before its order comes, by the deed; it must change nothing on the host."""

OVER = signal.SIGUSR1
"""Tells the child of a run that its faults have lasted long enough; others pass over it."""

_PAUSE = 0.1  # seconds without an order or a death, so that what is made ready keeps nobody waiting
_READY = b"ready"
_NAME_MAX = 64  # bytes; of a deed
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Zygote:
    """The API's end; ``pidfd`` becomes readable when it dies.

    Args:
        deeds: what children can be asked to do, by name.
        rehearsals: those for which a child is to be ready.
        stock: has things ready for children; called at first, and when some may have been used. Whether
            they are others than before.
    """

    def __init__(self, deeds: Mapping[str, Deed], rehearsals: Rehearsals, stock: Callable[[], bool]) -> None:
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        gc.freeze()  # what is there now is shared with every child, and not to be copied for counting it
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._end.close()
            try:
                _call_myself(f"{MARK}-zygote")
                _die_with(parent, signal.SIGKILL)
                _Parent(theirs, deeds, rehearsals, stock).serve()
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
                file.write(msgspec.json.encode({"patience": patience, "order": order}))
                file.flush()
                socket.send_fds(self._end, [deed.encode()], [theirs.fileno(), text])
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


class _Parent:
    """What the zygote does."""

    def __init__(
        self,
        end: socket.socket,
        deeds: Mapping[str, Deed],
        rehearsals: Rehearsals,
        stock: Callable[[], bool],
    ) -> None:
        self._end, self._deeds, self._rehearsals, self._stock = end, deeds, rehearsals, stock
        # One that dies unasked stays here until it would be needed: what has killed it may kill the next.
        self._ahead: dict[str, _Child] = {}
        self._busy: set[int] = set()  # children that others are kept from the host by, and from its time

    def serve(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        died, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        watched: list[Any] = [self._end, died]
        self._make_ready()
        pause: float | None = None
        while True:
            ready, _, _ = select.select(watched, [], [], pause)
            pause = _PAUSE if ready else None
            if not ready and not self._busy:
                self._make_ready()
            if died in ready:
                os.read(died, 4096)
                self._bury()
            if self._end in ready and not self._pass_on():
                return

    def _make_ready(self) -> None:
        if self._stock():  # those forked before have the old ones
            for child in self._ahead.values():
                child.kill()
            self._ahead.clear()
        for deed in self._rehearsals.keys() - self._ahead.keys():
            with suppress(OSError):  # no room for one more; an order may find some
                self._ahead[deed] = self._fork(rehearse=self._rehearsals[deed])

    def _fork(self, *private: int, rehearse: Callable[[], None] | None = None) -> _Child:
        others = (self._end, *(child.end for child in self._ahead.values()))
        return _Child(self._deeds, rehearse, (*private, *(end.fileno() for end in others)))

    def _pass_on(self) -> bool:
        deed, fds, _, _ = socket.recv_fds(self._end, _NAME_MAX, 2)
        if not deed:
            return False
        pidfd = self._give(deed.decode(), fds)
        socket.send_fds(self._end, [b"p"], [pidfd])
        for fd in (*fds, pidfd):
            os.close(fd)
        return True

    def _give(self, deed: str, fds: list[int]) -> int:
        child = self._ahead.get(deed)
        if child is None or child.rehearses():
            child = self._fork(*fds)
        else:
            del self._ahead[deed]
        if not child.give(deed, fds):  # it was killed while it waited
            child.kill()
            child = self._fork(*fds)
            child.give(deed, fds)
        if deed in self._rehearsals:
            self._busy.add(child.pid)
        return child.pidfd

    def _bury(self) -> None:
        with suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._busy.discard(pid)


class _Child:
    """A process that waits for an order, carries it out, and ends.

    Args:
        deeds: as in ``Zygote``.
        rehearse: what it does meanwhile.
        private: descriptors that it must not keep open.
    """

    def __init__(
        self,
        deeds: Mapping[str, Deed],
        rehearse: Callable[[], None] | None,
        private: Iterable[int],
    ) -> None:
        self.end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._rehearsed = rehearse is not None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            for each in (*private, self.end.fileno()):
                os.close(each)
            _live(theirs, deeds, rehearse, parent)
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)  # of a child that nobody has buried yet, so it is this one

    def rehearses(self) -> bool:
        """Whether it would keep an order waiting."""
        return not select.select([self.end], [], [], 0)[0]

    def give(self, deed: str, fds: list[int]) -> bool:
        """Give it its order, once it has rehearsed; False if it has died."""
        with self.end, suppress(OSError):
            if self._rehearsed and self.end.recv(len(_READY)) != _READY:
                return False
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)  # who has stopped it did not mean the order
            socket.send_fds(self.end, [deed.encode()], fds)
            return True
        return False

    def kill(self) -> None:
        """End it; it must not have an order."""
        self.end.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)


def _live(
    end: socket.socket, deeds: Mapping[str, Deed], rehearse: Callable[[], None] | None, parent: int
) -> None:
    status, deed = 1, b""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(OVER, signal.SIG_IGN)
        _die_with(parent, signal.SIGTERM)
        os.setsid()
        if rehearse is not None:
            _call_myself(f"{MARK}-rehearse")
            rehearse()
            _call_myself(f"{MARK}-ahead")
        with end, suppress(ConnectionError):  # the zygote has died, before our word or without taking it
            if rehearse is not None:
                end.send(_READY)
            deed, fds, _, _ = socket.recv_fds(end, _NAME_MAX, 2)
        # what is called chaosd-... is not traced, and its children in trials are called as it is
        _call_myself(MARK)
        status = _do(deeds[deed.decode()], *fds) if deed else 0
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _do(deed: Deed, story_fd: int, order_fd: int) -> int:
    with open(order_fd, "rb") as file:
        file.seek(0)
        told = msgspec.json.decode(file.read())
    with socket.socket(fileno=story_fd) as story:
        return deed(told["order"], _teller(story, told["patience"]))


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


def _call_myself(name: str) -> None:
    _libc().prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _die_with(parent: int, number: signal.Signals) -> None:
    _libc().prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it has died before this was said


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
