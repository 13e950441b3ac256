"""Network namespaces and interfaces by identity, and how to work inside one."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from ctypes import CDLL, get_errno
from functools import cache

import msgspec

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since 5.14


class NetnsRef(msgspec.Struct, frozen=True, eq=False):
    """A network namespace by identity.

    Args:
        inode: of its nsfs file. The kernel gives a new namespace the inode of one just removed.
        path: where to look first.
        cookie: the kernel's number of it (SO_NETNS_COOKIE, socket(7)), never used twice until the
            next boot; 0 when it is not known, as before Linux 5.14.
    """

    inode: int
    path: str
    cookie: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetnsRef) and self._is(other.inode, other.cookie)

    def __hash__(self) -> int:
        return hash(self.inode)

    @classmethod
    def at(cls, path: str) -> NetnsRef:
        """The namespace that a file such as /proc/PID/ns/net or /run/netns/NAME stands for."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls(os.fstat(fd).st_ino, path, _cookie(fd))
        finally:
            os.close(fd)

    @classmethod
    def own(cls) -> NetnsRef:
        """The namespace of the calling thread."""
        return cls.at(f"/proc/{os.getpid()}/ns/net")

    def _is(self, inode: int, cookie: int) -> bool:
        return inode == self.inode and (cookie == self.cookie or 0 in (cookie, self.cookie))

    def alive(self) -> bool:
        """Whether the namespace still exists."""
        return any(self == NetnsRef(self.inode, "", _cookie(fd)) for fd in _found(self))


def _found(ref: NetnsRef) -> Generator[int, None, None]:
    for path in _places(ref):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.fstat(fd).st_ino == ref.inode:
                yield fd
        finally:
            os.close(fd)


def _places(ref: NetnsRef) -> Iterator[str]:
    yield ref.path
    yield "/proc/self/ns/net"
    for folder in ("/run/netns", "/run/docker/netns"):
        if os.path.isdir(folder):
            yield from (f"{folder}/{name}" for name in os.listdir(folder))
    yield from (f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit())


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
    with closing(_found(ref)) as found:
        for fd in found:
            with _entered(fd):
                if ref == NetnsRef(ref.inode, "", _own_cookie()):
                    yield
                    return
    raise FileNotFoundError(f"network namespace {ref.inode} is gone")


@contextmanager
def _entered(fd: int) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def _cookie(fd: int) -> int:
    try:
        with _entered(fd):
            return _own_cookie()
    except OSError:  # EPERM without privileges
        return 0


def _own_cookie() -> int:
    try:
        with socket.socket(socket.AF_UNIX) as end:
            return int.from_bytes(end.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
    except OSError:  # ENOPROTOOPT before 5.14
        return 0


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
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
