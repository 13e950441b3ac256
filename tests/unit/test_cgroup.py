"""What is read from the kernel's text about cgroups: mounts, values, the fields of the faults."""

import pytest

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import CpuShare
from chaosd.faults.cpu_pin import CpuPin
from chaosd.faults.cpu_throttle import CpuThrottle
from chaosd.faults.memory_limit import MemoryLimit
from chaosd.faults.pids_limit import PidsLimit
from chaosd.kernel.cgroup import CgroupRef, mounts_in
from chaosd.kernel.cgroup_file import ControlFile, cpus_of, value_in
from chaosd.kernel.cgroup_group import Move, Setting, Subgroup
from chaosd.kernel.edit import from_data, to_data
from chaosd.kernel.pause import Pause
from chaosd.kernel.process import Kill, ProcessRef
from chaosd.units import Duration, Percent, Size

V1_KEYS = {"cpu", "cpuacct", "memory", "name=systemd", ""}


def test_hybrid_mounts() -> None:
    """Controllers mounted together are two keys of one place; the v2 hierarchy is called by nothing."""
    lines = [
        "24 1 0:22 / / rw - ext4 /dev/vda rw",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755",
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd",
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate",
    ]
    assert {key: mount.point for key, mount in mounts_in(lines, V1_KEYS).items()} == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "name=systemd": "/sys/fs/cgroup/systemd",
        "": "/sys/fs/cgroup/unified",
    }


def test_the_mount_that_shows_most_counts() -> None:
    """Of a bind mount of a part and the mount of the whole, the whole; spaces in paths are unescaped."""
    lines = [
        "50 1 0:26 /docker/ab /mnt/part rw - cgroup2 cgroup2 rw",
        r"51 1 0:26 / /mnt/with\040space rw - cgroup2 cgroup2 rw",
    ]
    (mount,) = mounts_in(lines, set()).values()
    assert (mount.root, mount.point) == ("/", "/mnt/with space")


@pytest.mark.parametrize(
    ("file", "text", "value"),
    [
        ("memory.high", "33554431\n", "33550336"),
        ("memory.high", "max\n", "max"),
        ("cpuset.cpus", "0-2,5\n", "0,1,2,5"),
        ("cpuset.cpus", "\n", ""),
        ("cpu.max", "max  100000\n", "max 100000"),
        ("freezer.state", "FREEZING", "FROZEN"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "0"),
        ("memory.oom_control", "1", "1"),
    ],
)
def test_values_in_one_normal_form(file: str, text: str, value: str) -> None:
    """What was written and what the kernel shows of it compare equal."""
    assert value_in(file, text) == value


def test_cpu_lists() -> None:
    """Ranges and single CPUs, in the kernel's form."""
    assert cpus_of("0-1,3") == {0, 1, 3}
    assert cpus_of("") == set()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (CpuThrottle(percent=CpuShare(20), period=Duration(2)), "1ms to 1s|between"),
        (CpuThrottle(percent=CpuShare(0)), "under 1%"),
        (CpuThrottle(percent=CpuShare(50), period=Duration(0.001)), "under 100%"),
        (CpuPin(cpus=[99999]), "no CPU 99999"),
        (MemoryLimit(), "either size or percent"),
        (MemoryLimit(size=Size(1), percent=Percent(1)), "either size or percent"),
        (MemoryLimit(size=Size(0)), "process.pause"),
        (PidsLimit(), "either limit or headroom"),
        (PidsLimit(limit=1, headroom=1), "either limit or headroom"),
    ],
)
def test_fields_that_contradict(fault: CpuThrottle, word: str) -> None:
    """One line that says what would be right."""
    (line,) = [line for line in fault.check() if any(part in line for part in word.split("|"))]
    assert "\n" not in line


def test_a_share_may_be_over_one_cpu() -> None:
    """150% is one and a half CPUs, in the quota and in words."""
    assert CpuShare.parse("150%") == 150
    assert str(CpuShare.parse(250)) == "250%"
    with pytest.raises(ChaosdError, match="share of one CPU"):
        CpuShare.parse("a lot")


@pytest.mark.parametrize(
    "edit",
    [
        ControlFile(CgroupRef("/c", 5), "cpu.max", "max 100000", "1000 100000"),
        Subgroup(CgroupRef("/c", 5), "chaosd-abc123-7", CgroupRef("/d", 6), (("cgroup.type", "threaded"),)),
        Setting("/c/chaosd-abc123-7", "pids.max", "5"),
        Move((ProcessRef(7, 8), ProcessRef(9, 10)), CgroupRef("/d", 6), "/c/chaosd-abc123-7"),
        Pause((ProcessRef(7, 8),), (ProcessRef(9, 10),), tree=False),
        Kill(ProcessRef(7, 8), 15),
    ],
    ids=lambda edit: type(edit).__name__,
)
def test_edits_survive_the_journal_and_can_be_compared(edit: ControlFile) -> None:
    """The plan finds equal edits by their hash, the watchdog reads them from JSON."""
    assert {edit: 1}[from_data(to_data(edit))] == 1
    assert edit.describe()
