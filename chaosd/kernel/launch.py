"""A program that chaosd starts itself: forked, and kept waiting until it is told to begin.

It is the engine's child, in the same session, process group and terminal, with the same descriptors. Until
it begins it dies with the engine; from then on it belongs to the user and outlives us.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from chaosd.errors import ChaosdError
from chaosd.kernel import seccomp
from chaosd.kernel.process import ProcessRef

WAITING = "chaosd.exec"
"""What the kernel calls it (proc_pid_comm(5)) until the program has taken its place."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_SETENV = b"setenv "  # no filter begins so: the first instruction of one loads the architecture
_WITHIN = 10.0
_current: list[Launch] = []


class Launch:
    """A process that waits to become a program.

    Args:
        path: the program's file.
        argv: its arguments, the first one its name.
    """

    def __init__(self, path: str, argv: Sequence[str]) -> None:
        self.path = path
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        engine = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._end.close()
            _child(path, argv, theirs, engine)
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)
        self.process = ProcessRef.of(self.pid)
        self.begun = False
        self._status: int | None = None
        _current[:] = [self]
        self._ask(b"")  # it has taken its signals and its name by then

    def _ask(self, what: bytes) -> bytes:
        self._end.settimeout(_WITHIN)
        with suppress(OSError):
            if what:
                self._end.send(what)
            return self._end.recv(64)
        return b""

    def install(self, program: bytes) -> int:
        """Let it put itself under a seccomp filter; returns the filter's listener.

        From here on it hangs at the first call that the filter chooses, until somebody answers.

        Raises:
            ChaosdError: the kernel refused, or it has begun already.
        """
        if self.begun or self._end.send(program) != len(program):
            raise ChaosdError("a filter can only be had before the program begins")
        self._end.setblocking(False)
        stop = time.monotonic() + _WITHIN
        while time.monotonic() < stop:
            # It cannot hand over the listener: sending might be among the chosen calls.
            if (listener := seccomp.listener_of(self.pid)) is not None:
                return listener
            with suppress(BlockingIOError):
                raise seccomp.refusal(int(self._end.recv(64) or 0))
            time.sleep(0.001)
        raise ChaosdError("the program to be started took no filter")

    def setenv(self, name: str, value: str) -> None:
        """Let it begin with a variable in its environment.

        Raises:
            ChaosdError: it has begun already.
        """
        if self.begun:
            raise ChaosdError("the environment of a program that has begun cannot be changed")
        self._end.send(_SETENV + os.fsencode(f"{name}={value}"))

    def begin(self) -> None:
        """Let the program take its place."""
        if not self.begun:
            self.begun = True
            with suppress(OSError):  # it was killed meanwhile, which its end will tell
                self._end.send(b"go")

    def failure(self) -> int:
        """The errno with which the program could not be started; 0 when it was."""
        self._end.settimeout(_WITHIN)
        with suppress(OSError, ValueError):
            return int(self._end.recv(64))  # a program that took its place has closed the other end
        return 0

    def send(self, number: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def look(self) -> int | None:
        """Its exit status as a shell has it, 128 and the signal if one killed it; None while it runs.

        Negative: it was stopped by that signal since this was last asked.
        """
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return -os.WSTOPSIG(status)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = 128 - code if code < 0 else code
        return self._status

    def close(self) -> None:
        """Let go of it; one that has not begun is no more."""
        if not self.begun:
            self.send(signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._end.close()
        os.close(self.pidfd)
        _current.clear()


def current() -> Launch | None:
    """What this process has started, if it has."""
    return _current[0] if _current else None


def _child(path: str, argv: Sequence[str], end: socket.socket, engine: int) -> NoReturn:
    status = 127
    try:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == engine:
            prctl(_PR_SET_NAME, WAITING.encode())
            _default_signals()
            end.send(b"waits")
            _wait(end)
            prctl(_PR_SET_PDEATHSIG, 0)
            os.execv(path, list(argv))  # noqa: S606 - the words of the user are never a shell's
    except OSError as error:
        status = 126
        with suppress(OSError):
            end.send(str(error.errno).encode())
    finally:
        os._exit(status)


def _default_signals() -> None:
    # what the interpreter has changed, as subprocess does it; all else is as our parent had it
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait(end: socket.socket) -> None:
    while (told := end.recv(1 << 16)) != b"go":
        if not told:
            raise SystemExit  # the engine has gone
        if told.startswith(_SETENV):
            name, _, value = told.removeprefix(_SETENV).partition(b"=")
            os.environb[name] = value
        elif number := seccomp.install(told):
            end.send(str(number).encode())
