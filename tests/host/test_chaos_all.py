"""The suite of the make targets against the booking service, to its end: one scenario of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMULATED = "CHAOSD_GUEST" in os.environ
NAMES = (
    "network-latency",
    "service-unavailable",
    "rate-limiting",
    "cpu-throttling",
    "memory-leak",
    "disk-full",
    "process-killed",
)

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
    pytest.mark.timeout(1500),
]


def test_every_scenario_passes_or_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "state"))
    argv = [sys.executable, str(ROOT / "tools/chaos.py"), *NAMES, "--report", str(tmp_path / "out")]
    argv += ["--slow", "--seconds", "8"] if EMULATED else ["--seconds", "3"]
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    told = json.loads((tmp_path / "out/result.json").read_text("utf-8"))
    assert {run["scenario"]: (run["verdict"], run["reason"]) for run in told["runs"]} == {
        run["scenario"]: ("passed", "") for run in told["runs"]
    }
    assert len(told["runs"]) + len(told["skipped"]) == len(NAMES)
    assert all("this host cannot do" in each["reason"] for each in told["skipped"]), told["skipped"]
    assert {"network-latency", "cpu-throttling"} <= {run["scenario"] for run in told["runs"]}
    assert (tmp_path / "out/report.html").stat().st_size > 100_000
