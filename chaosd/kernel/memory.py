"""How much memory there is to spare: on the host, and below the limits of a cgroup."""

from __future__ import annotations

from chaosd.kernel.cgroup import CgroupRef, parent_of, read
from chaosd.kernel.load_process import available

_LEAST = 256 << 20
_SHARE = 20  # one part in so many of all memory
_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
_USED = ("memory.current", "memory.usage_in_bytes")
_IDLE = ("total_inactive_file", "inactive_file")  # v1, with all that is below, and v2

__all__ = ["available", "floor", "limit_left"]


def floor() -> int:
    """What a load leaves available on this host, in bytes: a twentieth of its memory, 256 MiB at least."""
    with open("/proc/meminfo", encoding="ascii") as file:
        total = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemTotal:"))
    return max(total // _SHARE, _LEAST)


def limit_left(ref: CgroupRef) -> int | None:
    """Bytes that can be taken in a cgroup before a limit of it, or of one above, is met; None without any.

    Caches that the kernel would give back first (inactive_file) count as not taken.
    """
    found, path = [], ref.path
    while path != parent_of(path):
        found += _left(CgroupRef.at(path))
        path = parent_of(path)
    return max(min(found), 0) if found else None


def _left(ref: CgroupRef) -> list[int]:
    used = next((int(text) for file in _USED if (text := _text(ref, file))), 0)
    stat = dict(line.split() for line in _text(ref, "memory.stat").splitlines())
    used -= next((int(stat[key]) for key in _IDLE if key in stat), 0)
    limits = [int(text) for file in _LIMITS if (text := _text(ref, file)).isdigit()]
    return [limit - used for limit in limits if limit < 1 << 60]  # v1 shows the largest number for none


def _text(ref: CgroupRef, file: str) -> str:
    try:
        return read(ref, file)
    except FileNotFoundError:
        return ""
