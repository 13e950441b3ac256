"""The supervisor of a launched program as the engine that started it holds it, and how others find it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf, helper, notify_process, ptrace, seccomp
from chaosd.kernel.decision import Channel
from chaosd.kernel.launch import WAITING, Launch

_START_WITHIN = 10.0
_HEED_WITHIN = 1.0


class Child:
    """A supervisor; it ends with this object while it has no listener, and by itself afterwards.

    Args:
        run: of its edits, by which others know it.
        launch: the program.
    """

    def __init__(self, run: str, launch: Launch) -> None:
        self._launch = launch
        self._wanted: dict[int, set[int]] = {}
        self._up = self._supervises = False
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                helper.command("notify_start", run),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self._end.settimeout(_START_WITHIN)
        self._began = time.monotonic()

    def ready(self) -> bool:
        """Whether it has started.

        Raises:
            ChaosdError: it has not, and does not.
        """
        if not self._up and select.select([self._end], [], [], 0)[0]:
            self._up = self._end.recv(16) == b"up"
        late = time.monotonic() > self._began + _START_WITHIN
        if not self._up and (late or self.process.poll() is not None):
            raise ChaosdError(f"the supervisor did not start: {self._last_words()}")
        return self._up

    def want(self, numbers: dict[int, set[int]]) -> None:
        """Have these calls stopped, too: by AUDIT_ARCH and number; only before the first ``add``."""
        for arch, wanted in numbers.items():
            self._wanted.setdefault(arch, set()).update(wanted)

    def add(self, index: int, settings: dict[str, object], channel: Channel) -> None:
        """Let it decide for one more fault.

        Raises:
            UnsupportedError: the kernel takes no filter.
            ChaosdError: it did not start, or the program has begun.
        """
        while not self.ready():
            time.sleep(0.01)
        if not self._supervises:
            self._supervise()
        fds = (channel.page, channel.pipe, bpf.lease().fd)
        self._order({"index": index, "add": settings}, *fds)

    def _supervise(self) -> None:
        listener = self._launch.install(seccomp.program(self._wanted))
        try:
            what = {"launched": self._launch.pid, "waiting": WAITING}
            socket.send_fds(self._end, [json.dumps(what).encode()], [listener])
        except OSError:
            raise ChaosdError(f"the supervisor did not start: {self._last_words()}") from None
        finally:
            os.close(listener)
        self._supervises = True

    def _order(self, what: dict[str, object], *fds: int) -> None:
        said = b""
        with suppress(OSError):
            socket.send_fds(self._end, [json.dumps(what).encode()], fds)
            self.process.send_signal(signal.SIGCONT)  # somebody may have stopped it
            said = self._end.recv(16)
        if said != b"ready":
            raise ChaosdError(f"the supervisor does not answer: {self._last_words()}")

    def drop(self, index: int) -> None:
        """Let it decide no longer for a fault; it lets pass what that had held.

        Raises:
            ChaosdError: it does not answer.
        """
        self._end.settimeout(_HEED_WITHIN)
        self._order({"drop": index})

    def _last_words(self) -> str:
        if self.process.poll() is None:
            return "it hangs"
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        words = (self.process.stderr.read() or b"").decode(errors="replace").strip().split("\n")
        return words[-1] or f"exit status {self.process.returncode}"

    def problem(self) -> str:
        """Why it no longer decides; empty while it does, and when nobody is left to decide for."""
        if self.process.poll():
            return f"its supervisor ended by itself: {self._last_words()}; another one lets every call pass"
        if ptrace.of_status(self.process.pid, "State:") in ("T", "t"):
            return "its supervisor was stopped by somebody"
        return ""

    def kill(self) -> None:
        """End it, if it is not dead; its keeper lets everything pass then."""
        self.process.kill()

    def close(self) -> None:
        """Let go of it; it lets everything pass from now on."""
        self._end.close()


def supervisors(run: str) -> Iterator[int]:
    """The pids of those that decide for a run on this host, whoever started them."""
    for pid in helper.running("notify_start", run):
        if ptrace.of_status(pid, "Name:") == notify_process.DECIDES:
            yield pid
