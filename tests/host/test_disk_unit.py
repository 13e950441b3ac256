"""disk.throttle of a unit, through a real systemd."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from disks import loop
from systemd_world import systemd

from chaosd.kernel import blocks
from chaosd.kernel.cgroup import UNIFIED, hierarchies, home_of
from chaosd.targets.processes import snapshot

SERVICE = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep 600\n"
# argv: the folder of the tests, the device to limit, one that the operator has limited, both lines of io.max
SCRIPT = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from resources import applied, plan
from world import until
from chaosd.faults._disk import Throughput
from chaosd.faults.disk_throttle import DiskThrottle
from chaosd.kernel import systemd
from chaosd.kernel.systemd import CONTROL, systemctl
if "CHAOSD_GUEST" in os.environ:
    systemd._TIMEOUT = 60.0  # emulated, a reload takes longer than it may elsewhere
from chaosd.targets.resolve import resolve
unit, ours, theirs = "shop-api.service", *sys.argv[2:4]
systemctl("set-property", "--runtime", unit, f"IOReadBandwidthMax={theirs} 7000000")
target = resolve(f"unit:{unit}")
there = Path(target.cgroups[""].path, "io.max")
def said(*lines):
    # systemd answers before it has written to the cgroup
    until(lambda: there.exists() and {*there.read_text().splitlines()} == {*lines}, f"not {lines}")
    return True

mine, other = sys.argv[4:]
told = {"before": said(other)}
edits = plan(DiskThrottle(device=ours, read=Throughput(1 << 20), write_iops=50), target)
told["kinds"] = [type(edit).__name__ for edit in edits]
with applied(edits):
    told["during"] = said(mine, other)
    systemctl("daemon-reload")
    told["reloaded"] = said(mine, other)
    told["lost"] = [edit.lost() for edit in edits]
told["after"] = said(other)
told["left"] = sorted(path.name for path in Path(CONTROL, f"{unit}.d").iterdir())
print(json.dumps(told))
"""


def _leave_alone(init: int) -> None:
    # a cgroup with a process in it hands no controllers down, and what keeps the namespaces is in that one
    parent = snapshot()[init].parent
    Path(hierarchies()[UNIFIED], "cgroup.procs").write_text(str(parent), "ascii")


def test_limits_of_a_unit_last_over_a_reload_and_go(tmp_path: Path) -> None:
    """systemd keeps them, and what the operator has set for another device stays all the time."""
    if home_of("io") != UNIFIED:
        pytest.skip("systemd has no such properties on cgroup v1")
    with (
        loop(tmp_path, "ours") as ours,
        loop(tmp_path, "theirs") as theirs,
        systemd({"shop-api.service": SERVICE}) as world,
    ):
        mine = f"{blocks.named(ours)} rbps=1048576 wbps=max riops=max wiops=50"
        other = f"{blocks.named(theirs)} rbps=7000000 wbps=max riops=max wiops=max"
        folder = str(Path(__file__).parent)
        _leave_alone(world.pid)
        done = world.call(sys.executable, "-c", SCRIPT, folder, ours, theirs, mine, other)
        assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(told[when] for when in ("before", "during", "reloaded", "after"))
    assert told["kinds"] == ["UnitDevices", "UnitDevices"]
    assert told["lost"] == ["", ""]
    assert told["left"] == ["50-IOReadBandwidthMax.conf"]
