"""Real load: how much is burned, held and filled, for whom, and that all of it goes with its process."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from injecting import RUN
from resources import BUSY, applied, bare, group, owner, place, plan, share
from world import python, spawn, until

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import CpuShare
from chaosd.faults.base import Fault, Planning
from chaosd.faults.cpu_burn import CpuBurn
from chaosd.faults.disk_fill import DiskFill
from chaosd.faults.memory_leak import MemoryLeak
from chaosd.faults.memory_pressure import MemoryPressure
from chaosd.kernel import leftovers, load_process, memory
from chaosd.kernel.cgroup import UNIFIED
from chaosd.kernel.cgroup_file import change
from chaosd.kernel.edit import Edit, Evidence, to_data
from chaosd.kernel.filesystem import opened
from chaosd.kernel.load import Hold, Load
from chaosd.kernel.load_child import processes
from chaosd.targets.model import Target
from chaosd.targets.processes import see
from chaosd.targets.protect import is_chaosd
from chaosd.units import Duration, Percent, Size

MIB = 1 << 20
HOST = Target("host")
AT = Planning(RUN, 0, 1, "process", 5.0)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x00020000, 0x4000, 0x40000
RUNS = """
import json, sys, time
from chaosd.kernel.edit import from_data
edit = from_data(json.loads(sys.argv[1]))
edit.apply()
edit.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + 100)
print("applied", flush=True)
time.sleep(100)
"""
SLEEPER = "print('up', flush=True)\nimport time; time.sleep(600)"


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def load_of(edits: Sequence[Edit]) -> Load:
    (found,) = [edit for edit in edits if isinstance(edit, Load)]
    return found


def evidence(load: Load) -> Evidence:
    found = load.evidence()
    assert found is not None
    return found


@contextmanager
def loaded(fault: Fault, target: Target, *, elsewhere: bool = False) -> Iterator[Load]:
    """A load in force for 100 s, and nothing of it left behind."""
    load = load_of(edits := plan(fault, target))
    with applied(edits, elsewhere=elsewhere):
        assert evidence(load).injected == 0, "something was done before the first renewal"
        load.renew(now() + 100)
        yield load
        assert not load.lost()
    assert not list(processes(load.run, load.index))


def resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def pid_of(load: Load) -> int:
    """The process of a load; of a burn, the first one."""
    return min(processes(load.run, load.index))


def favored(load: Load) -> None:
    """Let it go before all others: how exact it is by itself is asked, on a host that may be busy."""
    for pid in processes(load.run, load.index):
        os.setpriority(os.PRIO_PROCESS, pid, -20)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text("-20", "ascii")


def burned(load: Load, seconds: float) -> float:
    """How many CPUs' time the kernel says that the processes of a load used."""
    pids = list(processes(load.run, load.index))
    began, used = time.monotonic(), sum(map(_used, pids))
    time.sleep(seconds)
    return (sum(map(_used, pids)) - used) / (time.monotonic() - began)


def _used(pid: int) -> float:
    # The clock of the process, as clock_getcpuclockid(3) makes it: nanoseconds, on every kernel.
    return time.clock_gettime(~pid << 3 | 2)


@pytest.mark.alone
def test_a_burn_takes_what_was_asked_and_follows_its_level() -> None:
    """A tenth of a CPU within a tenth of that, half of it at half the level, none at 0."""
    with loaded(CpuBurn(percent=CpuShare(10)), HOST) as load:
        until(lambda: evidence(load).injected, "no worker")
        favored(load)
        assert burned(load, 4) == pytest.approx(0.1, rel=0.1)
        load.scale(0.5, 1)
        time.sleep(0.2)
        assert burned(load, 4) == pytest.approx(0.05, rel=0.15)
        load.scale(0, 1)
        time.sleep(0.2)
        before = evidence(load)
        assert burned(load, 2) < 0.02
        assert evidence(load) == before
        assert before.unit == "CPU milliseconds"
        assert 500 < before.injected <= before.matched * 1.1


@pytest.mark.alone
def test_a_burn_of_each_cpu_is_a_process_for_each() -> None:
    """Its parts are pinned where asked, and named so that chaosd knows them for its own."""
    last = max(os.sched_getaffinity(0))
    with loaded(CpuBurn(each=Percent(5), pinned=[last]), HOST) as load:
        assert load.describe() == f"burn the time of 0.05 CPUs on CPUs {last}"
        until(lambda: len(list(processes(load.run, load.index))) == 2, "no worker")
        pids = list(processes(load.run, load.index))
        assert all(os.sched_getaffinity(pid) == {last} for pid in pids)
        assert all(Path(f"/proc/{pid}/oom_score_adj").read_text("ascii") == "1000\n" for pid in pids)
        assert all((seen := see(pid)) and seen.comm == "chaosd-load" and is_chaosd(seen) for pid in pids)
    with loaded(CpuBurn(each=Percent(5)), HOST) as load:
        cpus = os.cpu_count() or 1
        until(lambda: len(list(processes(load.run, load.index))) == cpus + 1, "no workers")
        favored(load)
        assert burned(load, 3) == pytest.approx(0.05 * cpus, rel=0.1)


@pytest.mark.alone
def test_a_burn_competes_with_its_target_within_its_limit() -> None:
    """In a cgroup of a tenth of a CPU, a busy process gets clearly less than before."""
    with group("cpu") as (key, ref), spawn(python(BUSY)) as busy:
        Path(ref.path, "cgroup.procs").write_text(str(busy.pid), "ascii")
        file, quota = ("cpu.max", "10000 100000") if key == UNIFIED else ("cpu.cfs_quota_us", "10000")
        limit = change(ref, file, quota)
        with applied([limit]):
            alone = share(busy.pid, 3)
            with loaded(CpuBurn(each=Percent(100)), owner(key, ref)) as load:
                assert place(pid_of(load), key) == ref.path
                until(lambda: evidence(load).injected, "no worker")
                assert share(busy.pid, 3) < alone * 0.75
                assert burned(load, 2) < 0.1
                assert evidence(load).skipped["not to be had"] > 1000


def test_more_than_there_is_cannot_be_burned() -> None:
    with pytest.raises(ChaosdError, match="burn less"):
        plan(CpuBurn(percent=CpuShare(100 * (os.cpu_count() or 1) + 1)), HOST)
    with pytest.raises(ChaosdError, match="cgroup to itself"):
        list(CpuBurn(percent=CpuShare(5)).plan(Target("pid:1"), AT))
    assert CpuBurn().check()
    assert CpuBurn(percent=CpuShare(1), each=Percent(1)).check()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_memory_is_held_in_the_targets_cgroup(elsewhere: bool) -> None:
    """So many bytes are resident and counted to it, half of them at half the level, none at the end."""
    with group("memory") as (key, ref):
        used = Path(ref.path, "memory.current" if key == UNIFIED else "memory.usage_in_bytes")
        with loaded(MemoryPressure(size=Size(48 * MIB)), owner(key, ref), elsewhere=elsewhere) as load:
            until(lambda: evidence(load).injected == 48 * MIB, "not held")
            assert evidence(load) == Evidence(48 * MIB, 48 * MIB, unit="bytes")
            assert place(pid_of(load), key) == ref.path
            assert 48 * MIB < int(used.read_text("ascii")) < 60 * MIB
            assert resident(pid_of(load)) > 48 * MIB
            load.scale(0.5, 1)
            until(lambda: resident(pid_of(load)) < 45 * MIB, "nothing was given back")
            assert int(used.read_text("ascii")) > 23 * MIB
            load.scale(1, 1)
            until(lambda: resident(pid_of(load)) > 48 * MIB, "not held again")
        until(lambda: int(used.read_text("ascii")) < MIB, "it is still counted")


def test_a_cgroup_that_holds_only_cgroups_gets_one_more() -> None:
    """Where v2 takes no process beside cgroups, the load has a child of the target's, gone at the end."""
    with group("memory") as (key, ref):
        if key != UNIFIED:
            pytest.skip("the memory controller is not in v2")
        Path(ref.path, "cgroup.subtree_control").write_text("+memory", "ascii")
        used = Path(ref.path, "memory.current")
        with loaded(MemoryPressure(size=Size(16 * MIB)), owner(key, ref), elsewhere=True) as load:
            until(lambda: evidence(load).injected == 16 * MIB, "not held")
            assert place(pid_of(load), key) == load.group == f"{ref.path}/chaosd-{load.run}-0"
            assert int(used.read_text("ascii")) > 16 * MIB
        assert not [entry for entry in os.scandir(ref.path) if entry.is_dir()]


def test_percent_is_of_what_the_limit_leaves() -> None:
    with group("memory") as (key, ref):
        file = "memory.max" if key == UNIFIED else "memory.limit_in_bytes"
        Path(ref.path, file).write_text(str(64 * MIB), "ascii")
        work = load_of(plan(MemoryPressure(percent=Percent(50)), owner(key, ref))).work
        assert isinstance(work, Hold)
        assert work.size == pytest.approx(32 * MIB, rel=0.02)
        with pytest.raises(ChaosdError, match="free that may be held"):
            plan(MemoryPressure(size=Size(65 * MIB)), owner(key, ref))


def test_the_load_is_what_the_oom_killer_takes() -> None:
    """At the target's limit the load dies, the target lives, and the run is told why."""
    with group("memory") as (key, ref), spawn(python(SLEEPER)) as target:
        assert target.stdout
        assert target.stdout.readline()
        Path(ref.path, "cgroup.procs").write_text(str(target.pid), "ascii")
        limit = Path(ref.path, "memory.max" if key == UNIFIED else "memory.limit_in_bytes")
        edits = plan(MemoryPressure(size=Size(64 * MIB)), owner(key, ref))
        limit.write_text(str(40 * MIB), "ascii")
        load = load_of(edits)
        with applied(edits):
            load.renew(now() + 100)
            until(load.lost, "it was not killed")
            assert "OOM killer" in load.lost()
            assert target.poll() is None


def test_the_host_keeps_its_floor() -> None:
    """A load whose floor is above what the host has holds nothing, and is inconclusive."""
    load = Load(RUN, 0, Hold(64 * MIB, memory.available() * 2))
    with applied([load]):
        load.renew(now() + 100)
        until(lambda: evidence(load).matched == 64 * MIB, "it was not asked for")
        time.sleep(0.3)
        assert evidence(load) == Evidence(64 * MIB, 0, {"not to be had": 64 * MIB}, "bytes")
    with pytest.raises(ChaosdError, match="ask for less"):
        plan(MemoryPressure(size=Size(memory.available())), HOST)


def test_a_leak_grows_in_steps_up_to_its_end() -> None:
    with loaded(MemoryLeak(step=Size(4 * MIB), every=Duration(0.5), until=Size(10 * MIB)), HOST) as load:
        seen = set()

        def full() -> bool:
            seen.add(evidence(load).injected)
            return evidence(load).injected == 10 * MIB

        until(full, "it does not grow")
        time.sleep(0.6)
        assert evidence(load).injected == 10 * MIB
        assert seen | {0} == {0, 4 * MIB, 8 * MIB, 10 * MIB}


def test_a_load_ends_with_its_lease() -> None:
    """An engine that hangs has no load soon after, although its process is still there."""
    with loaded(MemoryPressure(size=Size(64 * MIB)), HOST) as load:
        until(lambda: resident(pid_of(load)) > 64 * MIB, "not held")
        load.renew(now() + 0.2)
        until(lambda: resident(pid_of(load)) < 40 * MIB, "still held")
        load.renew(now() + 100)


@pytest.mark.parametrize("fault", [CpuBurn(percent=CpuShare(5)), MemoryPressure(size=Size(64 * MIB))])
def test_a_load_dies_with_the_engine(fault: Fault) -> None:
    """SIGKILL of what started it ends every process of it at once."""
    (load,) = plan(fault, HOST)
    with spawn(python(RUNS, json.dumps(to_data(load)))) as engine:
        assert engine.stdout
        assert engine.stdout.readline() == "applied\n"
        assert load.present()
        assert [left for left in leftovers.ours() if "of a load" in str(left)]
        os.kill(engine.pid, signal.SIGKILL)
        until(lambda: not load.present(), "it outlived its engine", 2)


def test_scrubbing_finds_a_load() -> None:
    (load,) = plan(MemoryPressure(size=Size(MIB)), HOST)
    load.apply()
    try:
        pid = pid_of(load)
        (found,) = [left for left in leftovers.ours() if str(left) == f"process {pid} of a load"]
        found.remove()
        assert not load.present()
        assert "was killed" in load.lost()
    finally:
        load.revert()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount something at, in a mount namespace that this thread has to itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    former = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    place = tmp_path / "volume"
    place.mkdir()
    assert libc.unshare(_CLONE_NEWNS) == 0
    try:
        assert libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=False)
        assert libc.setns(former, _CLONE_NEWNS) == 0
        os.close(former)


def mount(place: Path, kind: str) -> None:
    """A file system of 64 MiB: in memory, or of a kind that mkfs knows on a loop device."""
    if kind == "tmpfs":
        words = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place)]
    else:
        image = place.parent / "image"
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        done = subprocess.run([f"mkfs.{kind}", str(image)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"mkfs.{kind}: {done.stderr.decode()}")
        words = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{kind} cannot be mounted: {done.stderr.decode()}")


def avail(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "ext2"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_disk_runs_full_and_is_as_before(volume: Path, kind: str, elsewhere: bool) -> None:
    """No name is seen, and all space comes back; ext2 has no fallocate, so that it is written."""
    mount(volume, kind)
    before, names = avail(volume), os.listdir(volume)
    with loaded(DiskFill(path=str(volume), leave=Size(5 * MIB)), HOST, elsewhere=elsewhere) as load:
        until(lambda: avail(volume) <= 5 * MIB, f"{avail(volume)} bytes are left")
        assert avail(volume) > 4 * MIB
        assert os.listdir(volume) == names
        until(lambda: evidence(load).injected, "it does not count")  # after what it has written
        assert evidence(load).injected == pytest.approx(before - 5 * MIB, rel=0.05)
        load.scale(0.5, 1)
        until(lambda: avail(volume) > before * 0.45, "nothing was given back")
        load.scale(1, 1)
        until(lambda: avail(volume) <= 5 * MIB, "not full again")
    assert avail(volume) == before


def test_where_every_file_has_a_name_it_loses_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS cannot make a file without a name. There is none at hand, so one call is refused here."""
    original = os.open

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "as NFS answers")
        return original(path, flags, mode, dir_fd=dir_fd)

    with opened(str(tmp_path), None) as folder:
        monkeypatch.setattr(os, "open", refusing)
        fd = load_process._unlinked(folder)
    monkeypatch.undo()
    with os.fdopen(fd, "wb") as file:
        file.write(b"x" * MIB)
        assert os.fstat(fd).st_nlink == 0
    assert not list(tmp_path.iterdir())


def test_percent_is_what_df_shows_and_roots_reserve_is_kept(volume: Path) -> None:
    mount(volume, "ext4")
    fault = DiskFill(path=str(volume), percent=Percent(100))
    assert any("root can still use its reserve" in said for said in fault.effect(HOST, AT))
    with loaded(fault, HOST):
        until(lambda: avail(volume) == 0, f"{avail(volume)} bytes are left")
        assert not _is_full(volume)
    with loaded(DiskFill(path=str(volume), percent=Percent(100), reserve=True), HOST):
        until(lambda: _is_full(volume), "root can still write")
    with pytest.raises(ChaosdError, match="as full already"):
        plan(DiskFill(path=str(volume), leave=Size(64 * MIB)), HOST)


def _is_full(place: Path) -> bool:
    try:
        (place / "probe").write_bytes(b"x" * MIB)
    except OSError:
        return True
    finally:
        (place / "probe").unlink(missing_ok=True)
    return False


def test_a_link_does_not_lead_out_of_the_targets_root(volume: Path) -> None:
    """A process with a root of its own has its own paths followed there, absolute links too."""
    mount(volume, "tmpfs")
    (volume / "data").mkdir()
    (volume / "link").symlink_to("/data")
    (volume / "out").symlink_to("/../../proc/self/root/usr")
    code = f"import os; os.chroot({str(volume)!r}); print('up', flush=True); os.read(0, 1)"
    with spawn([sys.executable, "-c", code]) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        target = bare(process.pid)
        with loaded(DiskFill(path="/link", percent=Percent(80)), target) as load:
            until(lambda: evidence(load).injected > 40 * MIB, "not filled")
            assert avail(volume) < 20 * MIB
        with pytest.raises(ChaosdError, match="No such file"):
            plan(DiskFill(path="/out", percent=Percent(80)), target)


def test_the_file_system_of_the_journal_is_not_filled_up(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(volume, "tmpfs")
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(volume / "run"))
    with pytest.raises(ChaosdError, match="chaosd's own journal"):
        plan(DiskFill(path=str(volume), percent=Percent(90)), HOST)


def test_another_file_system_at_the_path_is_refused(volume: Path) -> None:
    """What was mounted over the path after the plan is not filled."""
    mount(volume, "tmpfs")
    (load,) = plan(DiskFill(path=str(volume), percent=Percent(90)), HOST)
    mount(volume, "tmpfs")
    with pytest.raises(ChaosdError, match="another file system"):
        load.apply()
    assert not load.present()
    subprocess.run(["umount", str(volume)], check=True)
