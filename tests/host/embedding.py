"""Folders and processes for programs that use ``import chaosd``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import world
from orchestrating import state_of
from world import until

ROOT = Path(__file__).resolve().parents[2]


class Program:
    """A folder for runs, and something to aim them at: a process that does nothing.

    ``env`` is for programs; what is in it names the folder, so that all they start can be found.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid, self.target = folder, pid, f"pid:{pid}"
        self.places = {f"CHAOSD_{key}_DIR": str(folder / key.lower()) for key in ("RUN", "STATE", "CONFIG")}
        self.env = os.environ | self.places | {"PYTHONPATH": str(ROOT), "CHAOSD_ALONE": "1"}

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            argv, env=self.env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def python(self, code: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-c", code)

    def paused(self) -> bool:
        return state_of(self.pid) == "T"

    def family(self) -> list[int]:
        """Every process that began with our environment."""
        mark, found = f"CHAOSD_RUN_DIR={self.folder / 'run'}".encode(), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(int(pid))
        return found

    def journals(self) -> list[Path]:
        return list((self.folder / "run").glob("*.jsonl"))

    def assert_restored(self) -> None:
        """All is put back, and nobody is left."""
        until(lambda: not self.family(), "processes are left", 60)
        assert not self.paused()
        assert not self.journals()
        assert not (self.folder / "run").exists() or not list((self.folder / "run").iterdir())


@contextmanager
def program(folder: Path) -> Iterator[Program]:
    with world.spawn(["sleep", "600"]) as sleeper:
        yield Program(folder, sleeper.pid)
