"""Files that the kernel makes up as they are read: those of /proc, /sys and cgroups."""

from __future__ import annotations

import os

_PIECE = 1 << 16  # bytes


def read(path: str) -> str:
    """The whole text; what is no UTF-8 is replaced.

    By bare system calls, for one look at a host reads some hundreds of these: open() takes three times as
    long, for layers that have no use here.

    Raises:
        OSError: as the kernel says.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, _PIECE)]
        while len(parts[-1]) == _PIECE:
            parts.append(os.read(fd, _PIECE))
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")
