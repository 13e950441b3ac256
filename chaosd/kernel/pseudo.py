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
        # a read may give less than there is, such as what fits into a page: seq_read_iter(), fs/seq_file.c
        return b"".join(iter(lambda: os.read(fd, _PIECE), b"")).decode("utf-8", "replace")
    finally:
        os.close(fd)
