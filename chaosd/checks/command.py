"""Whether a command of the user's ends well."""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import threading
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.checks.base import Check, Failed, Reading, now
from chaosd.units import Duration

_KEPT = 4096

_lock = threading.Lock()
_running: dict[int, set[subprocess.Popen[bytes]]] = {}
"""Commands under way, by the identity of their check; what ``cancel`` ends."""


class Command(Check, frozen=True, kw_only=True):
    """``argv`` ends with exit status ``status`` in time; no shell reads it.

    The command runs in ``/`` with no input, in a session of its own; what outlives ``within`` is
    killed with its whole process group. The first line that it prints is the detail.
    """

    kind: ClassVar[str] = "command"

    argv: Annotated[
        list[Annotated[str, Meta(pattern=r"\A[^\0]*\Z")]],
        Meta(min_length=1, description="program and arguments"),
    ]
    status: Annotated[int, Meta(ge=0, le=255)] = 0
    user: Annotated[str, Meta(description="run as this user, with its groups")] = ""
    within: Annotated[Duration, Meta(description="longest time it may take")] = Duration(5)

    def describe(self) -> str:
        """What must hold."""
        whose = f" as {self.user}" if self.user else ""
        return f"{' '.join(self.argv)}{whose} exits with {self.status} within {self.within}"

    @property
    def executes(self) -> str:
        """The program."""
        return self.argv[0]

    def measure(self) -> Reading:
        """Run it once."""
        until = now() + self.within
        process = self._start()
        try:
            said = _wait(process, until)
        finally:
            with _lock:
                _running[id(self)].discard(process)
            _end(process)
        if process.returncode != self.status:
            raise Failed(_ending(process.returncode, said), answered=True)
        return Reading(said or f"exit status {self.status}")

    def cancel(self) -> None:
        """Kill what runs now."""
        with _lock:
            for process in _running.get(id(self), ()):
                _kill(process)

    def _start(self) -> subprocess.Popen[bytes]:
        user, group, groups = self._identity()
        with _lock:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=groups,
            )
            _running.setdefault(id(self), set()).add(process)
        return process

    def _identity(self) -> tuple[int | None, int | None, list[int] | None]:
        if not self.user:
            return None, None, None
        try:
            entry = pwd.getpwnam(self.user)
        except KeyError:
            raise Failed(f"there is no user {self.user!r}") from None
        return entry.pw_uid, entry.pw_gid, os.getgrouplist(self.user, entry.pw_gid)


def _wait(process: subprocess.Popen[bytes], until: float) -> str:
    assert process.stdout is not None
    output, ended = process.stdout.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(output, False)
    said = b""
    try:
        wanted = [ended, output]
        while True:
            ready = select.select(wanted, [], [], max(until - now(), 0))[0]
            if not ready:
                raise TimeoutError
            part = _part(output)
            said = (said + part)[:_KEPT]
            if ended in ready:
                return said.decode(errors="replace").strip().partition("\n")[0]
            if not part:
                wanted = [ended]
    finally:
        os.close(ended)


def _part(output: int) -> bytes:
    try:
        return os.read(output, 65536)
    except BlockingIOError:
        return b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the group is empty


def _end(process: subprocess.Popen[bytes]) -> None:
    # Before the wait: as long as the leader is not reaped, its group's number belongs to it.
    _kill(process)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _ending(code: int, said: str) -> str:
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return f"{how}: {said}" if said else how
