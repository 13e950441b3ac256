"""chaosd exec, killed at any instant: the command never began and is gone, or it lives on and no call fails.

Two faults share its supervisor. Cases and their shares are those of test_crash.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import world
from test_crash import POINTS, Host, cases, host, same

from chaosd.kernel.launch import WAITING
from chaosd.kernel.notify import NOTIFY

__all__ = ["host"]  # a fixture

FAULTS = (
    "syscall.error mechanism=notify syscalls=[sched_yield] errno=EXFULL",
    "syscall.delay mechanism=notify syscalls=[getppid] delay=1ms",
)
COMMAND = """
import os, sys
print("begun", flush=True)
for _ in sys.stdin:
    try:
        os.getppid()
        os.sched_yield()
        print("ok", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


class Command:
    """A command under a chaosd exec that will be killed; it goes on until its input ends."""

    def __init__(self, host: Host, who: str, point: str, number: int) -> None:
        faults = [word for fault in FAULTS for word in ("--fault", fault)]
        argv = [sys.executable, "-c", COMMAND]
        self.engine = host.start(who, point, number, "exec", *faults, "--duration", "300ms", "--", *argv)
        assert self.engine.stdout is not None
        self.begun = self.engine.stdout.readline() == "begun\n"

    def says(self) -> str:
        assert self.engine.stdin is not None
        assert self.engine.stdout is not None
        self.engine.stdin.write("\n")
        self.engine.stdin.flush()
        return self.engine.stdout.readline().strip()

    def end(self) -> str:
        """Let it end; what chaosd has said."""
        return self.engine.communicate(timeout=120)[1]


def _waiting() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/comm") if _text(path) == f"{WAITING}\n"]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _strike(host: Host, who: str, point: str, number: int) -> bool:
    """Let it happen; whether the command had begun by then."""
    host.struck.unlink(missing_ok=True)
    where = f"{who} {point} {number}"
    command = Command(host, who, point, number)
    if command.begun:
        world.until(lambda: [command.says() for _ in range(5)] == ["ok"] * 5, f"{where}: calls fail", 60)
    said = command.end()
    world.until(lambda: not _waiting(), f"{where}: a command that has not begun waits on: {said}")
    if who == "both" and host.live():
        assert host.chaosd("revert", "--all").returncode == 0
    world.until(lambda: not host.live(), f"{where}: the run was not closed: {said}")
    host.alone(f"{where}: one outlives the command: {said}")
    return command.begun


@pytest.mark.parametrize("who", ["engine", "both"])
@pytest.mark.timeout(1500)
def test_sigkill_at_every_point(host: Host, who: str) -> None:
    """What comes before the fault is live takes the command along; the rest leaves it alone."""
    world.need(NOTIFY)
    before = host.settled()
    for point, number in cases(POINTS, range(len(FAULTS))):
        begun = _strike(host, who, point, number)
        assert host.struck.exists(), f"{point} {number} was not reached"
        assert begun == (point in ("undo", "undone", "reverted")), f"{point} {number}"
        same(host, before)


@pytest.mark.timeout(1500)
def test_sigkill_of_the_engine_in_the_middle_of_deeds(host: Host) -> None:
    world.need(NOTIFY)
    before = host.settled()
    struck = []
    for point, number in cases(("line",), range(3, 300, 20)):
        _strike(host, "engine", point, number)
        struck.append(host.struck.exists())
        same(host, before)
    assert any(struck)
