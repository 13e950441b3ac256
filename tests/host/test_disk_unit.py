"""disk.throttle of a unit, through a real systemd."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from disks import loop
from systemd_world import systemd

from chaosd.kernel import blocks
from chaosd.kernel.cgroup import UNIFIED, home_of

SERVICE = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep 600\n"
# argv: the folder of the tests, the device to limit, and one that the operator has limited
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from resources import applied, plan
from chaosd.faults._disk import Throughput
from chaosd.faults.disk_throttle import DiskThrottle
from chaosd.kernel.systemd import CONTROL, systemctl
from chaosd.targets.resolve import resolve
unit, ours, theirs = "shop-api.service", *sys.argv[2:]
systemctl("set-property", "--runtime", unit, f"IOReadBandwidthMax={theirs} 7000000")
target = resolve(f"unit:{unit}")
there = Path(target.cgroups[""].path, "io.max")
said = lambda: sorted(there.read_text().splitlines())
told = {"before": said()}
edits = plan(DiskThrottle(device=ours, read=Throughput(1 << 20), write_iops=50), target)
told["kinds"] = [type(edit).__name__ for edit in edits]
with applied(edits, elsewhere=True):
    told["during"] = said()
    systemctl("daemon-reload")
    told["reloaded"] = said()
    told["lost"] = [edit.lost() for edit in edits]
told["after"] = said()
told["left"] = sorted(path.name for path in Path(CONTROL, f"{unit}.d").iterdir())
print(json.dumps(told))
"""


def test_limits_of_a_unit_last_over_a_reload_and_go(tmp_path: Path) -> None:
    """systemd keeps them, and what the operator has set for another device stays all the time."""
    if home_of("io") != UNIFIED:
        pytest.skip("systemd has no such properties on cgroup v1")
    with (
        loop(tmp_path, "ours") as ours,
        loop(tmp_path, "theirs") as theirs,
        systemd({"shop-api.service": SERVICE}) as world,
    ):
        done = world.call(sys.executable, "-c", SCRIPT, str(Path(__file__).parent), ours, theirs)
        assert done.returncode == 0, done.stderr
        numbers = (blocks.named(ours), blocks.named(theirs))
    told = json.loads(done.stdout)
    mine = f"{numbers[0]} rbps=1048576 wbps=max riops=max wiops=50"
    other = f"{numbers[1]} rbps=7000000 wbps=max riops=max wiops=max"
    assert told["before"] == told["after"] == [other]
    assert told["during"] == told["reloaded"] == sorted([mine, other])
    assert told["kinds"] == ["UnitDevices", "UnitDevices"]
    assert told["lost"] == ["", ""]
    assert told["left"] == ["50-IOReadBandwidthMax.conf"]
