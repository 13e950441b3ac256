"""Folders as a process sees them, the file systems they are on, and who else is on these."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL, c_char_p, c_int, c_long, get_errno

import msgspec

from chaosd.errors import ChaosdError
from chaosd.kernel.cgroup import unescape
from chaosd.kernel.process import ProcessRef

_OPENAT2 = 437  # Linux 5.6; one number on all architectures (include/uapi/asm-generic/unistd.h)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10  # include/uapi/linux/openat2.h
_IN_MEMORY = ("tmpfs", "ramfs")


class Mount(msgspec.Struct, frozen=True):
    """A line of mountinfo (proc_pid_mountinfo(5)).

    Args:
        number: of the mount.
        device: major and minor number, ``8:1``.
        point: where it is mounted, as its process sees it.
        kind: of the file system, ``ext4``.
        source: what is mounted.
        options: of the file system.
    """

    number: int
    device: str
    point: str
    kind: str
    source: str
    options: tuple[str, ...] = ()

    @property
    def in_memory(self) -> bool:
        """Whether what is written there takes up memory."""
        return self.kind in _IN_MEMORY


@contextmanager
def opened(path: str, root: ProcessRef | None) -> Iterator[int]:
    """A descriptor of a folder: the path is followed within the root of a process, or within the host's.

    Raises:
        ChaosdError: there is no such folder, or the process has ended.
    """
    try:
        fd = _open(path, root)
    except OSError as error:
        where = f" in process {root.pid}" if root else ""
        raise ChaosdError(f"{path}{where}: {error.strerror}", hint="name a folder") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _open(path: str, root: ProcessRef | None) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    top = os.open(f"/proc/{root.pid}/root" if root else "/", flags)
    try:
        if root and not root.alive():
            raise ProcessLookupError(errno.ESRCH, "the process has ended")
        # A link that a container's owner has set must not lead out of the container.
        how = struct.pack("QQQ", flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        libc = CDLL(None, use_errno=True)
        libc.syscall.restype = c_long
        fd = libc.syscall(c_long(_OPENAT2), c_int(top), c_char_p(path.encode()), how, c_long(len(how)))
    finally:
        os.close(top)
    if fd < 0:
        raise OSError(get_errno(), os.strerror(get_errno()))
    return int(fd)


def mounts(pid: int | str = "self") -> list[Mount]:
    """All mounts that a process sees."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_mount(line) for line in file]


def _mount(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    number, _, device, _, point = before.split()[:5]
    kind, source, options = after.split()
    return Mount(int(number), device, unescape(point), kind, unescape(source), tuple(options.split(",")))


def mount_of(fd: int, pid: int | str = "self") -> Mount:
    """The mount that a descriptor is on, as the process that sees it has it.

    Raises:
        ChaosdError: that process does not see it.
    """
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        number = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
    found = next((mount for mount in mounts(pid) if mount.number == number), None)
    if found is None:
        raise ChaosdError(f"mount {number} is not among those of process {pid}", hint="try again")
    return found


def shared_by(mount: Mount) -> list[str]:
    """Where else on this host the same file system is mounted; of an overlay, the one it writes to."""
    device = mount.device
    upper = next((word.partition("=")[2] for word in mount.options if word.startswith("upperdir=")), "")
    if upper and os.path.isdir(upper):
        number = os.stat(upper).st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
    return sorted({other.point for other in mounts() if other.device == device})
