"""Suites by the command line, on a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import world
from world import need, python, until

from chaosd.kernel.cgroup_plan import CPU_CONTROL

ROOT = Path(__file__).resolve().parents[2]
BURN = "while True: pass"
THROTTLE = """
name: {name}
duration: 500ms
parameters: {{percent: 20%}}
faults: [{{cpu.throttle: {{percent: "${{percent}}"}}}}]
"""
NEVER = """
name: never
duration: 500ms
faults: [{network.delay: {delay: 10ms, mechanism: netem}}]
"""
LATE = """
name: broken
duration: 500ms
steady_state: [{tcp: {host: 127.0.0.1, port: 1, within: 100ms}}]
faults: [process.pause]
"""


class Shell:
    """The chaosd command with folders of its own, and a process that burns a CPU."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.pid = stack.enter_context(world.spawn(python(BURN))).pid
        self.folder = folder
        places = {f"CHAOSD_{key}_DIR": str(folder / key.lower()) for key in ("RUN", "STATE", "CONFIG")}
        self.env = os.environ | places | {"PYTHONPATH": str(ROOT)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "chaosd", *words]
        return subprocess.Popen(
            argv, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        out, errors = process.communicate(timeout=110)
        assert "Traceback" not in errors, errors
        return process.returncode, out + errors

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, "utf-8")
        return name

    def live(self) -> list[Path]:
        return list((self.folder / "run").glob("*.jsonl"))

    def finished(self) -> list[Path]:
        return list((self.folder / "state" / "runs").glob("*.jsonl"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    need(CPU_CONTROL)
    with ExitStack() as stack:
        shell = Shell(stack, tmp_path)
        for name in ("first", "second"):
            shell.write(f"{name}.yaml", THROTTLE.format(name=name))
        shell.write("never.yaml", NEVER)
        shell.write("broken.yaml", LATE)
        yield shell


def suite(shell: Shell, *scenarios: str, more: str = "pause: 100ms") -> str:
    return shell.write("suite.yaml", f"name: mine\nscenarios: [{', '.join(scenarios)}]\n{more}\n")
