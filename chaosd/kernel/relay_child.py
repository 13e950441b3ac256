"""The relay's process as the engine that started it holds it."""

from __future__ import annotations

import mmap
import os
import select
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO

from chaosd.kernel import bpf, helper, relay_process
from chaosd.kernel.edit import MARK

_HEED_WITHIN = 0.5


class Child:
    """A relay that waits for its device, then relays, and ends when this object lets go of it.

    Args:
        device: descriptor that will be its TAP device; this process holds it no longer than until
            ``begin``, so that the device lives as long as the relay.
        facts: what tells it from others in /proc.
        settings: what else it is told.
    """

    def __init__(self, device: int, facts: Iterable[object], settings: Iterable[str]) -> None:
        self.device = FileIO(device, "r+")
        page = os.memfd_create(f"{MARK}-relay")
        try:
            os.ftruncate(page, relay_process.LAYOUT.size)
            self.page = mmap.mmap(page, relay_process.LAYOUT.size)
            inherited = (device, page, bpf.lease().fd)
            self.process = subprocess.Popen(
                helper.command("relay_start", *facts, os.getpid(), *inherited, *settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                start_new_session=True,
            )
        finally:
            os.close(page)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.control, self._speech = self.process.stdin, self.process.stdout
        self._said = b""

    def begin(self, within: float) -> bool:
        """Let it relay, now that there is a device; whether it says that it does."""
        self.device.close()
        with suppress(BrokenPipeError):
            os.write(self.control.fileno(), b"\n")
        if select.select([self._speech], [], [], within)[0]:
            self._said = self._speech.readline()
        return self._said == b"ready\n"

    def end(self) -> str:
        """End it, if it has not ended by itself; returns its status and its last words."""
        self.control.close()
        try:
            self.process.wait(_HEED_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._said += self._speech.read()
        words = self._said.decode(errors="replace").split("\n")
        return ": ".join(
            [f"exit status {self.process.returncode}", *[w for w in words if w not in ("", "ready")][-1:]]
        )

    def close(self) -> None:
        """End it, and let go of everything that is shared with it."""
        self.device.close()
        self.end()
        self._speech.close()
        self.page.close()
