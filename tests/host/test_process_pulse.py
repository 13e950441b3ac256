"""process.pulse: a process stands still and runs in turns, through the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from test_run import Shell
from world import spawn, until

from chaosd.faults.process_pulse import ProcessPulse
from chaosd.shape import Pulse
from chaosd.units import Duration

COUNTS = """
import sys, time
sys.stdout = open(sys.argv[1], "w")
began = last = time.monotonic()
print("up", flush=True)
while time.monotonic() - began < 60:
    time.sleep(0.01)
    now = time.monotonic()
    if now - last > 0.3:
        print(f"{now - last:.2f}", flush=True)
    last = now
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(stack, tmp_path)


def test_a_process_stops_and_runs_in_turns(shell: Shell, tmp_path: Path) -> None:
    """It stands still three times for about as long as was asked, and each time is promised and put back."""
    said = tmp_path / "gaps"
    with spawn(["python3", "-c", COUNTS, str(said)]) as process:
        until(lambda: said.exists() and "up" in said.read_text(), "no start")
        words = ("stopped=800ms", "running=1200ms", "--target", f"pid:{process.pid}", "--duration", "5500ms")
        status, out = shell.run("inject", "process.pulse", *words, "--json")
        view = json.loads(out)
        assert status == 0, view["reason"]
        states = [edit["state"] for edit in view["edits"].values() if "stop" in edit["says"]]
        assert states == ["undone"] * 3
        assert view["evidence"][0]["injected"] >= 3
        until(lambda: len(said.read_text().split()) >= 4, "no gaps")
        gaps = [float(gap) for gap in said.read_text().split()[1:]]
        assert len([gap for gap in gaps if 0.6 < gap < 1.6]) == 3, gaps


def test_the_shape_is_what_was_asked_for() -> None:
    fault = ProcessPulse(stopped=Duration(0.2), running=Duration(3))
    assert fault.shape == Pulse(on=Duration(0.2), off=Duration(3))
    assert not fault.check()
    assert ProcessPulse(stopped=Duration(0.05)).check() == ["50ms is shorter than 200ms"]
