"""Network namespaces and interfaces by identity, and how to work inside one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL, get_errno
from functools import cache

import msgspec

_CLONE_NEWNET = 0x40000000


class NetnsRef(msgspec.Struct, frozen=True, eq=False):
    """A network namespace: ``inode`` of its nsfs file is its identity, ``path`` is where to look first."""

    inode: int
    path: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetnsRef) and self.inode == other.inode

    def __hash__(self) -> int:
        return hash(self.inode)

    @classmethod
    def at(cls, path: str) -> NetnsRef:
        """The namespace that a file such as /proc/PID/ns/net or /run/netns/NAME stands for."""
        return cls(os.stat(path).st_ino, path)

    @classmethod
    def own(cls) -> NetnsRef:
        """The namespace of the calling thread."""
        return cls.at(f"/proc/{os.getpid()}/ns/net")

    def open(self) -> int | None:
        """A descriptor of the namespace, or None when nothing holds it any more."""
        for path in self._places():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            if os.fstat(fd).st_ino == self.inode:
                return fd
            os.close(fd)
        return None

    def _places(self) -> Iterator[str]:
        yield "/proc/self/ns/net"
        yield self.path
        for folder in ("/run/netns", "/run/docker/netns"):
            if os.path.isdir(folder):
                yield from (f"{folder}/{name}" for name in os.listdir(folder))
        yield from (f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit())

    def alive(self) -> bool:
        """Whether the namespace still exists."""
        fd = self.open()
        if fd is not None:
            os.close(fd)
        return fd is not None


@cache
def _libc() -> CDLL:
    return CDLL(None, use_errno=True)


def setns(fd: int, kind: int = _CLONE_NEWNET) -> None:
    """Take the calling thread into a namespace; ``os.setns`` came with Python 3.12 only."""
    if _libc().setns(fd, kind) != 0:
        raise OSError(get_errno(), f"setns: {os.strerror(get_errno())}")


@contextmanager
def inside(ref: NetnsRef) -> Iterator[None]:
    """Run the calling thread inside a network namespace; sockets made there stay in it.

    Raises:
        FileNotFoundError: the namespace is gone.
    """
    fd = ref.open()
    if fd is None:
        raise FileNotFoundError(f"network namespace {ref.inode} is gone")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(fd)
        os.close(home)


class DeviceRef(msgspec.Struct, frozen=True):
    """An interface: the namespace it is in, its index there, and its name when it was found."""

    netns: NetnsRef
    ifindex: int
    name: str

    def alive(self) -> bool:
        """Whether the interface with this index still has this name."""
        try:
            with inside(self.netns):
                return _index(self.name) == self.ifindex
        except FileNotFoundError:
            return False


def _index(name: str) -> int:
    import socket

    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
