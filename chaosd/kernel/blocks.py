"""Block devices by their numbers: the whole disks behind a path or a name.

The kernel limits whole disks alone, never partitions (blkg_conf_open_bdev(), block/blk-cgroup.c).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from chaosd.errors import ChaosdError

_NUMBERS = re.compile(r"\d+:\d+")
_HINT = "name a path on a disk, or a device such as device: sda"


def named(word: str) -> str:
    """The whole disk of a device: ``sda``, ``/dev/sda1``, ``/dev/mapper/data`` or ``8:0``.

    Returns:
        Its numbers, such as ``8:0``.

    Raises:
        ChaosdError: there is no such block device.
    """
    if _NUMBERS.fullmatch(word):
        return _whole(word, word)
    path = os.path.join("/dev", word)
    try:
        status = os.stat(path)
    except OSError as error:
        raise ChaosdError(f"{path}: {error.strerror}", hint="see: lsblk") from None
    if not stat.S_ISBLK(status.st_mode):
        raise ChaosdError(f"{path} is no block device", hint="see: lsblk")
    return _whole(_numbers(status.st_rdev), path)


def behind(path: str, pid: int | str = "self") -> tuple[str, ...]:
    """The whole disks under the file system that holds a path, as a process sees it.

    Its own device number is that of ext4, xfs and most others. Of btrfs it is all devices of the file
    system, of an overlay those of its upper layer, which is where it writes.

    Args:
        path: an absolute path.
        pid: of the process whose root and mounts are meant.

    Raises:
        ChaosdError: no such path, or its file system is on no block device of this host.
    """
    try:
        fd = os.open(f"/proc/{pid}/root{path}", os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ChaosdError(
            f"{path}: {error.strerror}", hint="an absolute path, as the target sees it"
        ) from None
    try:
        device, mount = os.fstat(fd).st_dev, _mount_id(fd)
    finally:
        os.close(fd)
    if os.major(device):
        return (_whole(_numbers(device), path),)
    kind, source, options = _mounted(pid, mount)
    if kind == "overlay":
        return behind(_layer(path, options))
    disks = tuple(dict.fromkeys(_members(source))) if kind == "btrfs" else ()
    if not disks:
        raise ChaosdError(f"{path} is on {kind}, which is on no block device", hint=_HINT)
    return disks


def node(numbers: str) -> str:
    """The path of a device's node, such as ``/dev/sda`` for ``8:0``."""
    return f"/dev/{_attribute(numbers, 'DEVNAME')}"


def _numbers(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _whole(numbers: str, said: str) -> str:
    place = f"/sys/dev/block/{numbers}"
    if not os.path.isdir(place):
        raise ChaosdError(f"{said} is on device {numbers}, which is no disk of this host", hint=_HINT)
    if os.path.exists(f"{place}/partition"):
        place = os.path.dirname(os.path.realpath(place))
    with open(f"{place}/dev", encoding="ascii") as file:
        return file.read().strip()


def _attribute(numbers: str, key: str) -> str:
    with open(f"/sys/dev/block/{numbers}/uevent", encoding="ascii") as file:
        pairs = dict(line.rstrip("\n").split("=", 1) for line in file)
    return pairs[key]


def _mount_id(fd: int) -> str:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith("mnt_id:"))


def _mounted(pid: int | str, mount: str) -> tuple[str, str, dict[str, str]]:
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
        line = next((line for line in file if line.split(" ", 1)[0] == mount), "")
    kind, source, options = (line.partition(" - ")[2].split() or ["an unknown file system", "", ""])[:3]
    pairs = (option.partition("=") for option in options.split(","))
    return kind, source, {key: value for key, _, value in pairs}


def _layer(path: str, options: dict[str, str]) -> str:
    layer = options.get("upperdir") or options.get("lowerdir", "").split(":")[0]
    if not os.path.isdir(layer):
        raise ChaosdError(f"{path} is on an overlay of {layer}, which cannot be seen from here", hint=_HINT)
    return layer


def _members(source: str) -> Iterator[str]:
    name = os.path.basename(os.path.realpath(source))
    pools = (entry.path for entry in os.scandir("/sys/fs/btrfs")) if os.path.isdir("/sys/fs/btrfs") else ()
    for pool in pools:
        folder = f"{pool}/devices"
        members = os.listdir(folder) if os.path.isdir(folder) else []
        if name in members:
            for member in members:
                with open(f"{folder}/{member}/dev", encoding="ascii") as file:
                    yield _whole(file.read().strip(), source)
