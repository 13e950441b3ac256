"""cgroup v1, v2 and hybrid: where the hierarchies are, and cgroups by identity."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import msgspec

from chaosd.kernel import pseudo
from chaosd.kernel.capability import Capability, Verdict, capability
from chaosd.kernel.edit import MARK

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


def unescape(text: str) -> str:
    """A field of mountinfo or mounts, in which spaces and the like stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _lines(pid: int | str) -> list[tuple[list[str], str]]:
    fields = (line.split(":", 2) for line in pseudo.read(f"/proc/{pid}/cgroup").split("\n") if line)
    return [(keys.split(","), path) for _, keys, path in fields]


def _mount(line: str, known: set[str]) -> _Mount | None:
    before, _, after = line.partition(" - ")
    kind, *_, options = after.split()
    if kind not in ("cgroup", "cgroup2"):
        return None
    root, point = (unescape(field) for field in before.split()[3:5])
    keys = tuple(known.intersection(options.split(","))) if kind == "cgroup" else (UNIFIED,)
    return _Mount(keys, root, point)


@cache
def _mounts() -> dict[str, _Mount]:
    known = {key for keys, _ in _lines("self") for key in keys}
    return mounts_in(pseudo.read("/proc/self/mountinfo").removesuffix("\n").split("\n"), known)


def mounts_in(lines: Iterable[str], known: set[str]) -> dict[str, _Mount]:
    """The cgroup mounts among lines of mountinfo; ``known`` are the v1 keys that the kernel has."""
    mounts = [mount for line in lines if (mount := _mount(line, known)) is not None]
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


def look_again() -> None:
    """Have the mounts read anew when they are next asked for."""
    _mounts.cache_clear()


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
    return [pid for folder, _, _ in os.walk(path) for pid in inhabitants(folder)]


def inhabitants(path: str) -> list[int]:
    """The pids in exactly this cgroup; of a threaded v2 cgroup the thread ids."""
    for file in ("cgroup.procs", "cgroup.threads"):
        try:
            return sorted({int(line) for line in pseudo.read(f"{path}/{file}").split()})
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # cgroup.procs of a threaded cgroup
                return []
    return []


@contextmanager
def opened(ref: CgroupRef) -> Iterator[int]:
    """A directory descriptor of exactly this cgroup, so that a path made anew is never touched.

    Raises:
        FileNotFoundError: it was removed, or another cgroup has its path now.
    """
    fd = os.open(ref.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_ino != ref.inode:
            raise FileNotFoundError(errno.ENOENT, "another cgroup has this path now", ref.path)
        yield fd
    except OSError as error:
        if error.errno != errno.ENODEV:  # what kernfs answers once the cgroup is removed
            raise
        raise FileNotFoundError(errno.ENOENT, "the cgroup was removed", ref.path) from None
    finally:
        os.close(fd)


def read(ref: CgroupRef, file: str) -> str:
    """The text of a control file (``FileNotFoundError``: no such file, or the cgroup is gone)."""
    with opened(ref) as folder:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(fd, encoding="utf-8") as stream:
            return stream.read().strip()


def write(ref: CgroupRef, file: str, text: str) -> None:
    """Write a control file at once; an empty text goes as a newline, which clears a list.

    O_NONBLOCK: kernels that know it there set a memory limit without reclaiming first.
    """
    with opened(ref) as folder:
        fd = os.open(file, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.write(fd, (text or "\n").encode())
        finally:
            os.close(fd)


def parent_of(path: str) -> str:
    """The directory above a cgroup, or itself when it is the root of its hierarchy."""
    return path if path in hierarchies().values() else os.path.dirname(path)


def home_of(controller: str) -> str | None:
    """The key of the hierarchy that has a controller, None when the kernel or the mounts lack it."""
    if UNIFIED in hierarchies() and controller in read(root(UNIFIED), "cgroup.controllers").split():
        return UNIFIED
    return controller if controller in hierarchies() else None


def root(key: str) -> CgroupRef:
    """The topmost cgroup of a hierarchy that can be seen from here."""
    return CgroupRef.at(hierarchies()[key])


def _scratch(key: str, file: str, mend: str) -> Verdict:
    path = f"{hierarchies()[key]}/{MARK}-probe-{os.getpid()}-{threading.get_ident()}"
    try:
        os.mkdir(path)
        there = os.path.exists(f"{path}/{file}")
        os.rmdir(path)
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, str(error))
        return Verdict(False, f"mkdir in {hierarchies()[key]} answered {said}", "run as root on the host")
    return Verdict(True) if there else Verdict(False, f"a new cgroup has no {file}", mend)


def _controller(name: str, key: str, file: str) -> Verdict:
    version = "v2" if key == UNIFIED else "v1"
    if home_of(name) != key:
        mend = f"needs CONFIG_CGROUPS with the {name} controller, bound to cgroup {version}"
        return Verdict(False, f"cgroup {version} has no {name} controller here", mend)
    # where the root has not enabled a v2 controller for its children, no file of it is there to look for
    enabled = key != UNIFIED or name in read(root(key), "cgroup.subtree_control").split()
    return _scratch(key, file if enabled else "cgroup.procs", _MENDS.get(name, ""))


_MENDS = {
    "cpu": "needs CONFIG_CFS_BANDWIDTH",
    "io": "needs CONFIG_BLK_DEV_THROTTLING",
    "blkio": "needs CONFIG_BLK_DEV_THROTTLING",
}


def _usable(name: str, version: str, file: str) -> Capability:
    key = UNIFIED if version == "v2" else name
    return Capability(f"cgroup-{version}-{name}", lambda: _controller(name, key, file))


CPU_V2, CPU_V1 = _usable("cpu", "v2", "cpu.max"), _usable("cpu", "v1", "cpu.cfs_quota_us")
CPUSET_V2, CPUSET_V1 = _usable("cpuset", "v2", "cpuset.cpus"), _usable("cpuset", "v1", "cpuset.cpus")
MEMORY_V2, MEMORY_V1 = (
    _usable("memory", "v2", "memory.high"),
    _usable("memory", "v1", "memory.limit_in_bytes"),
)
IO_V2 = _usable("io", "v2", "io.max")
BLKIO_V1 = _usable("blkio", "v1", "blkio.throttle.read_bps_device")
PIDS_V2, PIDS_V1 = _usable("pids", "v2", "pids.max"), _usable("pids", "v1", "pids.max")


FREEZERS = {UNIFIED: "cgroup.freeze", "freezer": "freezer.state"}
"""The hierarchies that can freeze, best first, and the control file that does it."""


@capability("freezer")
def FREEZER() -> Verdict:  # noqa: N802 - a capability reads as a constant
    """Whether whole cgroups can be frozen: cgroup.freeze (v2, Linux 5.2) or the v1 freezer."""
    tried = [_scratch(key, file, "needs Linux 5.2") for key, file in FREEZERS.items() if key in hierarchies()]
    none = Verdict(False, "no cgroup hierarchy can freeze", "mount cgroup2")
    return next((verdict for verdict in tried if verdict.ok), tried[-1] if tried else none)
