"""The chaosd command with folders of its own, and idle processes for it to act on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import world
from world import until

ROOT = Path(__file__).resolve().parents[2]
PAUSE = "name: {name}\nduration: {duration}\nfaults: [process.pause]\n"
NEVER = (
    "name: never\nduration: 300ms\n"
    "faults: [{syscall.error: {syscalls: [read], errno: EIO, mechanism: notify}}]\n"  # for chaosd exec alone
)
UNSTEADY = (
    "name: unsteady\nduration: 300ms\nsteady_state: [{tcp: {host: 127.0.0.1, port: 1, within: 100ms}}]\n"
    "faults: [process.pause]\n"
)


class Shell:
    """Runs chaosd in a folder with some scenarios: first, second, long, unsteady, and never."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder
        places = {f"CHAOSD_{key}_DIR": str(folder / key.lower()) for key in ("RUN", "STATE", "CONFIG")}
        self.env = os.environ | places | {"PYTHONPATH": str(ROOT)}
        for name in ("first", "second"):
            self.write(f"{name}.yaml", PAUSE.format(name=name, duration="300ms"))
        self.write("long.yaml", PAUSE.format(name="long", duration="60s"))
        self.write("never.yaml", NEVER)
        self.write("unsteady.yaml", UNSTEADY)

    def sleeper(self, name: str) -> int:
        """A process of this name that does nothing; its pid."""
        program = self.folder / name
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        return self._stack.enter_context(world.spawn([str(program), "600"])).pid

    def start(self, *words: str, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        argv = [*within, sys.executable, "-m", "chaosd", *words]
        return subprocess.Popen(
            argv, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def run(self, *words: str) -> tuple[int, str]:
        return ended(self.start(*words))

    def write(self, name: str, text: str) -> str:
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
        return name

    def live(self) -> list[Path]:
        return list((self.folder / "run").glob("*.jsonl"))

    def wait_fault(self) -> Path:
        until(lambda: self.live() and '"phase":"fault"' in self.live()[0].read_text("utf-8"), "no fault", 60)
        return self.live()[0]

    def runs(self) -> list[dict[str, Any]]:
        """The first record of each finished run, oldest first."""
        paths = (self.folder / "state" / "runs").glob("*.jsonl")
        firsts = [json.loads(path.read_text("utf-8").splitlines()[0]) for path in paths]
        return sorted(firsts, key=lambda record: record["at"])

    def targets(self) -> list[str]:
        """What the finished runs were aimed at, oldest first."""
        return [run["plan"]["faults"][0]["target"] for run in self.runs()]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status of a command, and all it said."""
    out, errors = process.communicate(timeout=110)
    assert "Traceback" not in errors, errors
    return process.returncode, out + errors


def state_of(pid: int) -> str:
    """The state of a process, such as S or T (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(stack, folder)
