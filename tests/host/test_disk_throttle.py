"""disk.throttle: how fast a target reads and writes, who else is slowed, and what the files say after."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from disks import Disk, disk, load, loop, mounted, run, worker
from resources import applied, bare, enter, group, owner, place, plan, revert_elsewhere
from world import python, until

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.faults._disk import Throughput
from chaosd.faults.disk_throttle import DiskThrottle
from chaosd.kernel import blocks
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, home_of
from chaosd.kernel.cgroup_io import DeviceLimit, limits_of
from chaosd.kernel.edit import Edit, Evidence, Undo

MIB = 1 << 20
CONTROLLER = "io" if home_of("io") == UNIFIED else "blkio"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path) as made:
        yield made


def limit_edits(edits: list[Edit]) -> list[DeviceLimit]:
    return [edit for edit in edits if isinstance(edit, DeviceLimit)]


def evidence(edits: list[Edit]) -> Evidence:
    found = [e for edit in edits if (e := edit.evidence()) is not None]
    return max(found, key=lambda e: (e.injected, e.matched))


def test_a_cgroup_is_throttled_in_place_and_a_bystander_is_not(small: Disk) -> None:
    """Reads and writes past the page cache go at the rates asked for, and again at full speed after."""
    fault = DiskThrottle(device=small.node, read=Throughput(4 * MIB), write=Throughput(2 * MIB))
    with group(CONTROLLER) as (key, ref), worker(small, "a") as one, worker(small, "b") as other:
        enter(one.pid, ref)
        free = sum(one.do("w", MIB, 8)) + sum(one.do("r", MIB, 8))
        edits = plan(fault, owner(key, ref))
        with applied(edits, elsewhere=True):
            assert sum(one.do("w", MIB, 5)) == pytest.approx(2.5, abs=0.6)
            assert evidence(edits).injected > 0
            assert sum(one.do("r", MIB, 8)) == pytest.approx(2.0, abs=0.5)
            assert sum(other.do("w", MIB, 16)) < 1
            assert not any(edit.lost() for edit in edits)
        assert sum(one.do("w", MIB, 8)) + sum(one.do("r", MIB, 8)) < max(1.0, 5 * free)


def test_operations_of_a_bare_process_beside_another(small: Disk) -> None:
    """It is moved below the cgroup it was in, does so many a second however small, and comes back."""
    fault = DiskThrottle(device=small.numbers, write_iops=20)
    with ExitStack() as stack:
        key, ref = stack.enter_context(group(CONTROLLER))
        one, other = (stack.enter_context(worker(small, name)) for name in "ab")
        if key != UNIFIED:  # there a shared cgroup that is not the root has no place for it
            enter(one.pid, ref)
            enter(other.pid, ref)
        home = place(one.pid, key)
        edits = plan(fault, bare(one.pid))
        with applied(edits, elsewhere=True):
            assert place(one.pid, key) != place(other.pid, key) == place(other.pid, key)
            assert sum(one.do("w", 4096, 40)) == pytest.approx(2, abs=0.6)
            assert sum(other.do("w", 4096, 40)) < 1
            assert evidence(edits).injected > 0
        assert place(one.pid, key) == home
        assert sum(one.do("w", 4096, 40)) < 1


def test_a_run_that_held_nothing_back_has_no_evidence(small: Disk) -> None:
    """I/O far below the limit is counted, and not as held back; none at all neither."""
    fault = DiskThrottle(device=small.node, read=Throughput(1024 * MIB), write=Throughput(1024 * MIB))
    with group(CONTROLLER) as (key, ref), worker(small, "a") as one:
        enter(one.pid, ref)
        with applied(edits := plan(fault, owner(key, ref))):
            one.do("w", 4096, 5)
            time.sleep(0.5)
            found = evidence(edits)
            assert found.matched >= 5
            assert found.injected == 0
            time.sleep(0.5)
            assert evidence(edits) == found


def test_a_limit_can_be_made_looser_and_tighter_while_it_is_in_force(small: Disk) -> None:
    """A quarter of the strength is four times the rate, none is no limit; each is known as ours."""
    fault = DiskThrottle(device=small.node, write=Throughput(2 * MIB))
    with group(CONTROLLER) as (key, ref), worker(small, "a") as one:
        enter(one.pid, ref)
        edits = plan(fault, owner(key, ref))
        (edit,) = limit_edits(edits)
        with applied(edits, elsewhere=True):
            edit.scale(0.25, 1)
            assert limits_of(ref, edit.file, small.numbers)["wbps"] == 8 * MIB
            assert sum(one.do("w", MIB, 8)) == pytest.approx(1, abs=0.4)
            edit.scale(0, 1)
            assert edit.present()
            assert not edit.lost()
            assert sum(one.do("w", MIB, 8)) < 0.5
            edit.scale(0.1, 1)
            assert not edit.lost()


def test_lines_of_other_devices_stay_and_ours_gets_back_what_it_said(small: Disk, tmp_path: Path) -> None:
    """One line is changed, to what was asked for and no more, and to what it said before."""
    fault = DiskThrottle(device=small.node, write=Throughput(MIB))
    with group(CONTROLLER) as (key, ref), loop(tmp_path, "other") as node:
        first = DiskThrottle(device=small.node, write=Throughput(5 * MIB), read_iops=77)
        second = DiskThrottle(device=node, write=Throughput(3 * MIB))
        with (
            applied(plan(first, owner(key, ref), "aaaaaa")),
            applied(plan(second, owner(key, ref), "bbbbbb")),
        ):
            edits = plan(fault, owner(key, ref))
            (edit,) = limit_edits(edits)
            lines = Path(ref.path, edit.file).read_text("ascii").splitlines()
            with applied(edits, elsewhere=True):
                assert limits_of(ref, edit.file, small.numbers)["wbps"] == MIB
                assert limits_of(ref, edit.file, blocks.named(node))["wbps"] == 3 * MIB
                if key == UNIFIED:
                    assert limits_of(ref, edit.file, small.numbers)["riops"] == 77
            assert Path(ref.path, edit.file).read_text("ascii").splitlines() == lines
            with pytest.raises(ChaosdError, match="already limited"):
                plan(DiskThrottle(device=small.node, write=Throughput(5 * MIB)), owner(key, ref))


def test_what_somebody_else_has_set_meanwhile_stays(small: Disk) -> None:
    """Before the deed it is refused, after it left alone."""
    with group(CONTROLLER) as (key, ref):
        edits = plan(DiskThrottle(device=small.node, write=Throughput(MIB)), owner(key, ref))
        (edit,) = limit_edits(edits)
        for before in edits[:-1]:
            before.apply()
        edit.apply()
        theirs = "wbps=12345" if key == UNIFIED else "12345"
        Path(ref.path, edit.file).write_text(f"{small.numbers} {theirs}", "ascii")
        assert "somebody else" in edit.lost()
        assert revert_elsewhere([edit]) == [Undo.FOREIGN]
        assert limits_of(ref, edit.file, small.numbers)["wbps"] == 12345
        with pytest.raises(ForeignStateError, match="somebody else"):
            edit.apply()
        for before in reversed(edits[:-1]):
            assert before.revert() in (Undo.FOREIGN, Undo.DONE)


def test_a_cgroup_that_is_gone_is_done_with(small: Disk) -> None:
    """Its line went with it, and one of the same path is another's."""
    with group(CONTROLLER) as (key, ref):
        edits = plan(DiskThrottle(device=small.node, write=Throughput(MIB)), owner(key, ref))
        for edit in edits:
            edit.apply()
        os.rmdir(ref.path)
        os.mkdir(ref.path)
        again = CgroupRef.at(ref.path)
        assert again.inode != ref.inode
        assert limit_edits(edits)[0].lost()
        assert revert_elsewhere(edits)[0] is Undo.GONE
        for edit in reversed(edits[:-1]):
            edit.revert()


def test_on_v1_the_cgroups_below_are_limited_as_well(small: Disk) -> None:
    """There each cgroup has limits of its own; on v2 those above hold below."""
    with group(CONTROLLER) as (key, ref), worker(small, "a") as one:
        below = Path(ref.path, "below")
        below.mkdir()
        enter(one.pid, CgroupRef.at(str(below)))
        with applied(plan(DiskThrottle(device=small.node, write=Throughput(2 * MIB)), owner(key, ref))):
            assert sum(one.do("w", MIB, 4)) == pytest.approx(2, abs=0.6)
        enter(one.pid, CgroupRef.at(os.path.dirname(ref.path)))
        below.rmdir()


def test_the_disk_behind_a_path(small: Disk, tmp_path: Path) -> None:
    """ext4 names its device itself; an overlay is where its upper layer is; a partition is its disk."""
    assert blocks.behind(small.point, small.pid) == (small.numbers,)
    assert blocks.named(small.node) == blocks.named(Path(small.node).name) == small.numbers
    assert blocks.node(small.numbers) == small.node
    layers = tmp_path / "layers"
    layers.mkdir()
    command = (
        'mount "$2" "$3" && mkdir -p "$3/up" "$3/work" "$3/low" && '
        'mount -t overlay -o "lowerdir=$3/low,upperdir=$3/up,workdir=$3/work" none "$1"'
    )
    script = "import sys; from chaosd.kernel import blocks; print(*blocks.behind(sys.argv[1]))"
    with mounted(command, tmp_path / "overlay", small.node, layers) as pid:
        enter_it = ["nsenter", "--target", str(pid), "--mount", *python(script, tmp_path / "overlay")]
        assert run(*enter_it) == small.numbers
        with pytest.raises(ChaosdError, match="cannot be seen from here"):
            blocks.behind(str(tmp_path / "overlay"), pid)


def test_the_disk_of_a_partition_is_the_whole(tmp_path: Path) -> None:
    """The kernel takes no limit for a part."""
    with loop(tmp_path, "parts") as node:
        whole = blocks.named(node)
        run("addpart", node, "1", "2048", "4096")
        part = Path("/sys/block", Path(node).name, f"{Path(node).name}p1", "dev").read_text("ascii").strip()
        assert part != whole
        assert blocks.named(part) == whole
        # udev looks at the new node, and for as long as it has it open the kernel says EBUSY
        until(lambda: subprocess.run(["delpart", node, "1"], check=False).returncode == 0, "still in use")


def test_all_disks_of_a_btrfs(tmp_path: Path) -> None:
    """Its own device number is none; its file system knows what it is on."""
    load("btrfs")
    if not Path("/sys/fs/btrfs").exists():
        pytest.skip("this kernel has no btrfs")
    with loop(tmp_path, "one") as one, loop(tmp_path, "two") as two:
        run("mkfs.btrfs", "-q", "-f", "-d", "raid0", "-m", "raid1", one, two)
        command = 'btrfs device scan "$2" "$3" >/dev/null && mount "$2" "$1"'
        with mounted(command, tmp_path / "pool", one, two) as pid:
            found = blocks.behind(str(tmp_path / "pool"), pid)
            assert set(found) == {blocks.named(one), blocks.named(two)}


BAD = [
    ({"path": "/proc"}, "is on proc, which is on no block device"),
    ({"path": "/nowhere/at/all"}, "No such file"),
    ({"device": "nothing0"}, "/dev/nothing0: No such file"),
    ({"device": "null"}, "/dev/null is no block device"),
    ({"device": "999:999"}, "is no disk of this host"),
]


@pytest.mark.parametrize(("fields", "said"), BAD, ids=str)
def test_what_has_no_disk_is_refused_in_one_line(fields: dict[str, str], said: str) -> None:
    """What, where, and what would be right."""
    fault = DiskThrottle(write=Throughput(MIB), **fields)
    with group(CONTROLLER) as (key, ref), pytest.raises(ChaosdError, match=said) as caught:
        plan(fault, owner(key, ref))
    assert "\n" not in str(caught.value)


def test_a_run_that_throttles_passes_and_one_that_does_not_is_inconclusive(
    small: Disk, tmp_path: Path
) -> None:
    """By the command, from outside: the path is seen as the target sees it."""
    env = os.environ | {"CHAOSD_RUN_DIR": str(tmp_path / "run"), "CHAOSD_STATE_DIR": str(tmp_path / "state")}
    for rate, verdict in (("2MiB/s", "passed"), ("1GB/s", "inconclusive")):
        with worker(small, "a") as one:
            words = ["inject", "disk.throttle", f"path={small.point}", f"write={rate}", "--json"]
            argv = python("from chaosd.cli.main import main; main()", *words, "--target", f"pid:{one.pid}")
            argv += ["--duration", "2s"]
            running = subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE)
            while running.poll() is None:
                one.do("w", 65536, 4)
                time.sleep(0.01)
            told = json.loads(running.communicate()[0])
            assert told["verdict"] == verdict, told
            assert told["evidence"][0]["unit"] == "I/Os"
            assert told["restored"]["differs"] == []
