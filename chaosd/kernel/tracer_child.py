"""The tracer's process as the engine that started it holds it, and how others find it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import bpf, helper, ptrace
from chaosd.kernel.decision import Channel

_START_WITHIN = 10.0
_SEIZE_WITHIN = 4.0  # under what the watchdog gives a silent engine
_HEED_WITHIN = 1.5


class Child(Channel):
    """A tracer, and what it tells; it has nothing to do before ``begin``, nothing to trace before ``seize``.

    Args:
        run, index: of its edit, by which others know it.
    """

    def __init__(self, run: str, index: int) -> None:
        super().__init__()
        self._lease, self._up = bpf.lease().fd, False
        try:
            self.process = subprocess.Popen(
                helper.command("tracer_start", run, index),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(self.page, self.pipe, self._lease),
                start_new_session=True,
            )
        finally:
            self.handed_over()
        self._fds = {"page": self.page, "hits": self.pipe, "lease": self._lease}
        self._began = time.monotonic()

    def ready(self) -> bool:
        """Whether it has started.

        Raises:
            ChaosdError: it has not, and does not.
        """
        said = None if self._up else self._hear(0)
        self._up = self._up or said == b"up\n"
        if not self._up and (said is not None or time.monotonic() > self._began + _START_WITHIN):
            raise ChaosdError(f"the tracer did not start: {self._last_words(said or b'')}")
        return self._up

    def begin(self, settings: dict[str, object]) -> None:
        """Tell it what to do.

        Args:
            settings: for ``tracer_process.Tracer``.

        Raises:
            ChaosdError: it did not start.
        """
        while not self.ready():
            time.sleep(0.005)
        self._write({**settings, "parent": os.getpid(), **self._fds})

    def _hear(self, within: float) -> bytes | None:
        """A line of what it says; empty when it has ended, None when there is nothing within some seconds."""
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], within)[0]:
            return self.process.stdout.readline()
        return None

    def _write(self, what: object) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and its last words say why
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()

    def seize(self, pids: Iterable[int]) -> None:
        """Let it trace further processes, and wait until it does.

        Raises:
            UnsupportedError: tracing is forbidden here.
            ChaosdError: one is traced already, or the tracer has ended.
        """
        self._write(list(pids))
        said = self._hear(_SEIZE_WITHIN) or b""
        if said != b"ready\n":
            raise self._refusal(self._last_words(said))

    @staticmethod
    def _refusal(words: str) -> ChaosdError:
        if not words.startswith("refused "):
            return ChaosdError(f"the tracer did not start: {words}")
        pid, tracer, number = map(int, words.split()[1:])
        if tracer:
            name = ptrace.of_status(tracer, "Name:")
            return ChaosdError(
                f"process {pid} is traced already, by {name} ({tracer})",
                hint="a thread has one tracer at most",
            )
        hint = "it takes CAP_SYS_PTRACE, and kernel.yama.ptrace_scope below 3"
        return UnsupportedError(f"process {pid} cannot be traced: {os.strerror(number)}", hint=hint)

    def _last_words(self, said: bytes = b"") -> str:
        self._end()
        assert self.process.stdout is not None
        lines = (said + self.process.stdout.read()).decode(errors="replace").split("\n")
        words = [line for line in lines if line not in ("", "up", "ready")]
        return words[-1] if words else f"exit status {self.process.returncode}"

    def problem(self) -> str:
        """Why it no longer works; empty while it does."""
        if self.process.poll() is not None:
            return f"its tracer ended by itself: {self._last_words()}"
        if ptrace.of_status(self.process.pid, "State:") in ("T", "t"):
            return "its tracer was stopped by somebody"
        return ""

    def _end(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(_HEED_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """End it; every thread goes on by itself."""
        self._end()
        assert self.process.stdout is not None
        self.process.stdout.close()
        super().close()


def tracers(run: str, index: int) -> Iterator[int]:
    """The pids of the tracers of an edit on this host, whoever started them."""
    return helper.running("tracer_start", run, index)
