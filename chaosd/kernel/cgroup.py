"""cgroup v1, v2 and hybrid: where the hierarchies are, and cgroups by identity."""

from __future__ import annotations

import os
import re
from functools import cache

import msgspec

UNIFIED = ""
"""The hierarchy key of cgroup v2; a v1 hierarchy is called by its controller (``cpu``)."""


class CgroupRef(msgspec.Struct, frozen=True):
    """A cgroup directory: the inode tells it from a later one of the same path.

    On cgroup v2 the inode is the cgroup id that BPF helpers return (kernfs id, 64-bit kernels).
    """

    path: str
    inode: int

    @classmethod
    def at(cls, path: str) -> CgroupRef:
        """The cgroup at a path below /sys/fs/cgroup (``FileNotFoundError`` if there is none)."""
        return cls(path, os.stat(path).st_ino)

    def alive(self) -> bool:
        """Whether this very cgroup still exists."""
        try:
            return os.stat(self.path).st_ino == self.inode
        except FileNotFoundError:
            return False


class _Mount(msgspec.Struct, frozen=True):
    keys: tuple[str, ...]
    root: str
    point: str


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _lines(pid: int | str) -> list[tuple[list[str], str]]:
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        fields = (line.rstrip("\n").split(":", 2) for line in file)
        return [(keys.split(","), path) for _, keys, path in fields]


def _mount(line: str, known: set[str]) -> _Mount | None:
    before, _, after = line.partition(" - ")
    kind, *_, options = after.split()
    if kind not in ("cgroup", "cgroup2"):
        return None
    root, point = (_unescape(field) for field in before.split()[3:5])
    keys = tuple(known.intersection(options.split(","))) if kind == "cgroup" else (UNIFIED,)
    return _Mount(keys, root, point)


@cache
def _mounts() -> dict[str, _Mount]:
    known = {key for keys, _ in _lines("self") for key in keys}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [mount for line in file if (mount := _mount(line, known)) is not None]
    found: dict[str, _Mount] = {}
    for mount in sorted(mounts, key=lambda mount: len(mount.root)):
        for key in mount.keys:
            found.setdefault(key, mount)
    return found


def hierarchies() -> dict[str, str]:
    """Where each cgroup hierarchy is mounted: ``""`` is v2, ``cpu`` and so on are v1 controllers.

    Read once from /proc/self/mountinfo (proc_pid_mountinfo(5)); v1 hierarchies without a
    controller keep their kernel name, ``name=systemd``. Of several mounts of one hierarchy the
    one that shows most of it counts.
    """
    return {key: mount.point for key, mount in _mounts().items()}


def of_process(pid: int) -> dict[str, str]:
    """The directory of a process's cgroup in each mounted hierarchy, keyed as in ``hierarchies``.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        lines = _lines(pid)
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    paths = ((key, path) for keys, path in lines for key in keys)
    return {key: place for key, path in paths if (place := _place(key, path)) is not None}


def _place(key: str, path: str) -> str | None:
    mount = _mounts().get(key)
    if mount is None:
        return None
    root = mount.root.rstrip("/")
    if root and path != root and not path.startswith(f"{root}/"):
        return None
    return mount.point + path[len(root) :].rstrip("/")


def members(path: str) -> list[int]:
    """The pids in a cgroup and in everything below it; empty when it is gone."""
    return [pid for folder, _, _ in os.walk(path) for pid in _procs(folder)]


def _procs(folder: str) -> list[int]:
    try:
        with open(f"{folder}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except OSError:  # removed meanwhile, or a threaded v2 cgroup (EOPNOTSUPP)
        return []
