"""The suite of the make targets against the booking service, to its end: one scenario of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from disks import loop

ROOT = Path(__file__).parents[2]
EMULATED = "CHAOSD_GUEST" in os.environ
FEW = "network-latency service-unavailable rate-limiting cpu-throttling memory-leak disk-full process-killed"
NAMES = os.environ.get("CHAOSD_CHAOS", FEW).split()

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
    pytest.mark.timeout(5400 if "CHAOSD_CHAOS" in os.environ else 1500),
]


@pytest.fixture
def on_a_disk(tmp_path: Path) -> Iterator[None]:
    """In a guest, whose files are in memory, the demo's are on a file system of a loop device."""
    if not EMULATED:
        yield
        return
    with loop(tmp_path, "disk", 512 << 20) as node:
        subprocess.run(["mkfs.ext4", "-q", node], check=True)
        subprocess.run(["mount", node, "/var/lib"], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "/var/lib"], check=True)


@pytest.mark.usefixtures("on_a_disk")
def test_every_scenario_passes_or_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "state"))
    argv = [sys.executable, str(ROOT / "tools/chaos.py"), *NAMES, "--report", str(tmp_path / "out")]
    argv += ["--slow", "--seconds", "9"] if EMULATED else ["--seconds", "3"]
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    told = json.loads((tmp_path / "out/result.json").read_text("utf-8"))
    assert {run["scenario"]: (run["verdict"], run["reason"]) for run in told["runs"]} == {
        run["scenario"]: ("passed", "") for run in told["runs"]
    }
    suite = yaml.safe_load((tmp_path / "out/suite.yaml").read_text("utf-8"))
    assert len(told["runs"]) + len(told["skipped"]) == len(suite["scenarios"]) >= len(NAMES)
    assert all("this host cannot do" in each["reason"] for each in told["skipped"]), told["skipped"]
    assert {"network-latency", "cpu-throttling"} <= {run["scenario"] for run in told["runs"]}
    assert (tmp_path / "out/report.html").stat().st_size > 100_000
