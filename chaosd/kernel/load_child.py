"""The process of a load as the engine that started it holds it, and how others find it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaosd.errors import ChaosdError
from chaosd.kernel.edit import MARK
from chaosd.kernel.load_process import Page, workers

_BEGIN_WITHIN = 3.0  # under what the watchdog gives a silent engine
_END_WITHIN = 2.0
_ROOT = str(Path(__file__).resolve().parents[2])
_BEGIN = "import sys; sys.path.append(sys.argv[1]); from chaosd.kernel.load_process import main; main()"


class Child:
    """A load's process; it has and does nothing before ``begin``, and nothing before its first order.

    Args:
        run, index: of its edit, by which others know it.
        work: what it is to be, for ``load_process``.
        folder: descriptor of the folder that it fills, for a load that does.
    """

    def __init__(self, run: str, index: int, work: dict[str, Any], folder: int | None = None) -> None:
        fd = os.memfd_create(f"{MARK}-load")
        told = json.dumps({**work, "folder": folder})
        title = (run, str(index), str(os.getpid()), str(fd), told)
        try:
            self.page = Page(fd, workers(work))
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BEGIN, _ROOT, *title],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(fd,) if folder is None else (fd, folder),
                start_new_session=True,
            )
        finally:
            os.close(fd)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._control, self._speech = self.process.stdin, self.process.stdout
        self.level, self.until = 1.0, 0.0
        self._awake = False

    def awake(self, within: float = 0.0) -> bool:
        """Whether it has started, waiting for that so many seconds.

        Raises:
            ChaosdError: it has ended instead; the message is its own.
        """
        if not self._awake and select.select([self._speech], [], [], within)[0]:
            self._hear(b"awake\n")
            self._awake = True
        return self._awake

    def begin(self) -> None:
        """Let it get to work, and wait until it can.

        Raises:
            ChaosdError: it cannot; the message is its own.
        """
        with suppress(BrokenPipeError):  # it has ended, and its last words say why
            os.write(self._control.fileno(), b"\n")
        if not select.select([self._speech], [], [], _BEGIN_WITHIN)[0]:
            raise ChaosdError(f"the load has not begun after {_BEGIN_WITHIN:g} s: it gets no CPU time there")
        self._hear(b"ready\n")

    def _hear(self, word: bytes) -> None:
        said = self._speech.readline()
        if said != word:
            self.end()
            words = (said + self._speech.read()).decode(errors="replace").split("\n")
            last = [word for word in words if word][-1:] or [f"exit status {self.process.returncode}"]
            raise ChaosdError(f"the load did not begin: {last[0]}")

    def order(self, *, level: float | None = None, until: float | None = None) -> None:
        """Change how strong it is (0 to 1), or until when, in CLOCK_BOOTTIME seconds."""
        self.level = self.level if level is None else level
        self.until = self.until if until is None else until
        self.page.order(self.until, self.level)

    def problem(self) -> str:
        """Why it is no load any more; empty while it is."""
        status = self.process.poll()
        if status is None:
            return ""
        if status == -signal.SIGKILL:
            return "its process was killed, as the OOM killer does where memory runs out"
        return f"its process ended by itself with exit status {status}"

    def end(self) -> None:
        """End the process, and with it everything that it holds.

        Raises:
            TimeoutError: it does not end, as a process that waits for a dead disk.
        """
        self.process.kill()
        try:
            self.process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {self.process.pid} of a load does not end") from None

    def close(self) -> None:
        """End it, and let go of what is shared with it."""
        self.end()
        for part in (self._control, self._speech, self.page):
            part.close()


def processes(run: str = "", index: int = -1) -> Iterator[int]:
    """The pids of the processes of one load, or of all there are on this host, whoever started them."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")
            ours = words[4:5] == [_BEGIN] and os.stat(file.fileno()).st_uid == os.geteuid()
            if ours and (not run or words[6:8] == [run, str(index)]):
                yield int(pid)


def end(run: str, index: int) -> None:
    """End the processes of one load.

    Raises:
        TimeoutError: one does not end.
    """
    while pids := list(processes(run, index)):
        for pid in pids:
            end_one(pid)


def end_one(pid: int) -> None:
    """End one process of a load, and wait until it has given everything back.

    Raises:
        TimeoutError: it does not end, as a process that waits for a dead disk.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in processes():  # still, now that the pidfd holds it
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            if not select.select([fd], [], [], _END_WITHIN)[0]:
                raise TimeoutError(f"process {pid} of a load does not end")
    finally:
        os.close(fd)
