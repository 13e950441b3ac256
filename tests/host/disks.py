"""Disks of a test's own: a file system on a loop device, mounted where nobody else sees it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from world import python, spawn, until

WORKER = """
import mmap, os, sys, time
buffer = mmap.mmap(-1, 1 << 20)
for line in sys.stdin:
    what, size, count = line.split()
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT}[what] | os.O_DIRECT
    fd = os.open(sys.argv[1], flags)
    move = {"r": os.readv, "w": os.writev}[what]
    took = []
    for _ in range(int(count)):
        began = time.monotonic()
        assert move(fd, [memoryview(buffer)[:int(size)]]) == int(size)
        took.append(round(time.monotonic() - began, 4))
    os.close(fd)
    print(*took, flush=True)
"""


class Disk:
    """A loop device and the process in whose mount namespace it is mounted."""

    def __init__(self, node: str, pid: int, point: str) -> None:
        self.node, self.pid, self.point = node, pid, point
        self.numbers = Path("/sys/block", Path(node).name, "dev").read_text("ascii").strip()

    def enter(self, argv: Sequence[str]) -> list[str]:
        """A command line whose process sees the file system."""
        return ["nsenter", "--target", str(self.pid), "--mount", *argv]


class Worker:
    """A process that reads and writes one file past the page cache, when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.pid = process, process.pid

    def begin(self, what: str, size: int, count: int) -> None:
        """Let it ``r`` or ``w`` pieces of a size."""
        assert self._process.stdin
        self._process.stdin.write(f"{what} {size} {count}\n")

    def end(self) -> list[float]:
        """The seconds that each piece took."""
        assert self._process.stdout
        return [float(word) for word in self._process.stdout.readline().split()]

    def do(self, what: str, size: int, count: int) -> list[float]:
        """Both."""
        self.begin(what, size, count)
        return self.end()


@contextmanager
def worker(disk: Disk, name: str) -> Iterator[Worker]:
    """A worker with a file of its own, of 16 MiB."""
    with spawn(disk.enter(python(WORKER, f"{disk.point}/{name}"))) as process:
        made = Worker(process)
        made.do("w", 1 << 20, 16)
        yield made


def run(*argv: str) -> str:
    """What a command prints; the test is skipped where it is not there."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]}")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout.strip()


def load(module: str) -> None:
    """Load a module, which is built in or missing in some kernels."""
    subprocess.run(["modprobe", "--quiet", module], check=False)


@contextmanager
def loop(folder: Path, name: str, size: int = 128 << 20) -> Iterator[str]:
    """A loop device on a file of its own; its node."""
    load("loop")
    image = folder / name
    with image.open("wb") as file:
        file.truncate(size)
    node = run("losetup", "--find", "--show", str(image))
    try:
        yield node
    finally:
        run("losetup", "--detach", node)
        until(lambda: str(image) not in run("losetup", "--all"), f"{node} stays")
        image.unlink()


@contextmanager
def mounted(command: str, point: Path, *arguments: Any) -> Iterator[int]:
    """A process in a mount namespace of its own, in which a shell command has mounted something."""
    point.mkdir()
    script = f"mount --make-rprivate / && {command} && echo ready && exec sleep 1000"
    with spawn(["unshare", "--mount", "sh", "-c", script, "sh", str(point), *map(str, arguments)]) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n", f"{command} failed"
        yield process.pid


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """An ext4 file system on a loop device, in a mount namespace of its own."""
    with loop(folder, "image") as node:
        run("mkfs.ext4", "-q", "-F", node)
        with mounted('mount "$2" "$1"', folder / "mnt", node) as pid:
            yield Disk(node, pid, str(folder / "mnt"))
