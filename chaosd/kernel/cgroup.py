"""cgroup v1, v2 and hybrid: where the hierarchies are, and cgroups by identity."""

from __future__ import annotations

import os

import msgspec


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
