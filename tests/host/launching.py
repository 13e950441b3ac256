"""chaosd exec with folders of its own, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from world import until

ROOT = Path(__file__).resolve().parents[2]
TRIES = """
import errno, os, sys, time
def tries(count):
    said = []
    for _ in range(count):
        try:
            os.sched_yield()
            said.append(0)
        except OSError as error:
            said.append(error.errno)
    return said
"""


class Exec:
    """chaosd exec with folders of its own; every process of it must have gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = os.environ | {
            "CHAOSD_RUN_DIR": str(folder / "run"),
            "CHAOSD_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, faults: list[str], argv: list[str], *options: str, **more: Any) -> subprocess.Popen[str]:
        given = [word for fault in faults for word in ("--fault", fault)]
        under = more.pop("under", ())
        words = [*under, sys.executable, "-m", "chaosd", "exec", *given, *options, "--", *argv]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        self.started.append(subprocess.Popen(words, env=self.env, text=True, cwd=self.folder, **pipes))
        return self.started[-1]

    def run(self, faults: list[str], argv: list[str], *options: str) -> tuple[int, str, str]:
        process = self.start(faults, argv, *options)
        out, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        return process.returncode, out, errors

    def python(self, fault: str, code: str, *options: str) -> tuple[int, str, dict[str, Any]]:
        """Status, output and report of a Python program."""
        status, out, errors = self.run([fault], [sys.executable, "-c", TRIES + code], "--json", *options)
        return status, out, json.loads(errors)

    def journal(self) -> Path | None:
        return next((self.folder / "run").glob("*.jsonl"), None)

    def revert(self) -> None:
        words = [sys.executable, "-m", "chaosd", "revert", "--all"]
        subprocess.run(words, env=self.env, check=True, capture_output=True, cwd=self.folder)

    def ours(self, name: str = "") -> set[int]:
        """Its processes that are of chaosd; those of a name."""
        return {pid for pid in _here(self.folder) if name_of(pid).startswith(name or "chaosd")}


@contextmanager
def commands(folder: Path) -> Iterator[Exec]:
    """The above, and at the end nothing of it is left."""
    made = Exec(folder)
    yield made
    for process in made.started:  # where a test has failed, its command still waits for input
        if process.stdin is not None:
            process.stdin.close()
    until(lambda: not made.ours(), f"left: {[name_of(pid) for pid in made.ours()]}")
    assert not list((folder / "run").glob("*.jsonl"))
    assert not list(folder.glob("run-*"))


def _here(folder: Path) -> Iterator[int]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if str(folder).encode() in Path(f"/proc/{pid}/environ").read_bytes():
                yield int(pid)


def name_of(pid: int) -> str:
    """What the kernel calls a process; empty when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return ""
    return "" if "State:\tZ" in status else status.split("\n", 1)[0].removeprefix("Name:\t")
