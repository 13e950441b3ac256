"""Which argument of a system call is a file, a path or a socket, and which calls a filter can tell apart."""

from __future__ import annotations

import os
import re
from functools import cache

import msgspec

from chaosd.errors import UnsupportedError
from chaosd.kernel import syscalls
from chaosd.kernel.match import Filters
from chaosd.kernel.syscalls import Calls


class Takes(msgspec.Struct, frozen=True):
    """The arguments of one system call that say what it works on, by their index.

    Args:
        fds: file descriptors; where data goes from one to another, that from which it comes first.
        paths: (the directory's descriptor or -1, the path); any of them may be the one that is meant.
        address: a sockaddr, its length in the next argument; -1 for none. A null pointer stands for
            the peer that the socket is connected to.
        message: a msghdr, whose name is such an address; -1 for none.
        own: it is the socket's own address that counts, not the far end's.
    """

    fds: tuple[int, ...] = ()
    paths: tuple[tuple[int, int], ...] = ()
    address: int = -1
    message: int = -1
    own: bool = False


_BY_FD = Takes(fds=(0,))
_BY_PATH = Takes(paths=((-1, 0),))
_BY_TWO_PATHS = Takes(paths=((-1, 0), (-1, 1)))
_BELOW_FD = Takes(paths=((0, 1),))
_BELOW_TWO_FDS = Takes(paths=((0, 1), (2, 3)))
_OWN = Takes(fds=(0,), own=True)

_GROUPS: tuple[tuple[Takes, str], ...] = (
    (_BY_FD, "read pread64 readv preadv preadv2 write pwrite64 writev pwritev pwritev2 lseek _llseek close"),
    (_BY_FD, "fsync fdatasync sync_file_range syncfs fallocate ftruncate ftruncate64 readahead fadvise64"),
    (_BY_FD, "fstat fstat64 fstatfs fstatfs64 getdents getdents64 fchmod fchown fchdir flock fcntl fcntl64"),
    (_BY_FD, "ioctl fgetxattr fsetxattr flistxattr fremovexattr vmsplice"),
    (_BY_FD, "recvfrom recvmsg recvmmsg recvmmsg_time64 recv send shutdown getsockopt setsockopt"),
    (_BY_FD, "getpeername getsockname"),
    (Takes(fds=(0, 1)), "tee"),
    (Takes(fds=(1, 0)), "sendfile sendfile64"),
    (Takes(fds=(0, 2)), "copy_file_range splice"),
    (Takes(fds=(4,)), "mmap mmap2"),
    (_BY_PATH, "open creat stat stat64 lstat lstat64 statfs statfs64 access readlink truncate truncate64"),
    (_BY_PATH, "unlink rmdir mkdir mknod chmod chown lchown chdir chroot utime utimes execve acct swapon"),
    (_BY_PATH, "getxattr lgetxattr setxattr lsetxattr listxattr llistxattr removexattr lremovexattr"),
    (Takes(paths=((-1, 1),)), "symlink"),
    (_BY_TWO_PATHS, "rename link"),
    (_BELOW_FD, "openat openat2 newfstatat fstatat64 statx unlinkat mkdirat mknodat readlinkat faccessat"),
    (_BELOW_FD, "faccessat2 fchmodat fchmodat2 fchownat utimensat futimesat execveat name_to_handle_at"),
    (Takes(paths=((1, 2),)), "symlinkat"),
    (_BELOW_TWO_FDS, "renameat renameat2 linkat"),
    (Takes(fds=(0,), address=1), "connect"),
    (Takes(fds=(0,), address=4), "sendto"),
    (Takes(fds=(0,), message=1), "sendmsg sendmmsg"),
    (Takes(fds=(0,), address=1, own=True), "bind"),
    (_OWN, "listen accept accept4"),
)

_ALSO = {
    "mmap": "mmap2", "stat": "stat64", "lstat": "lstat64", "fstat": "fstat64", "newfstatat": "fstatat64",
    "statfs": "statfs64", "fstatfs": "fstatfs64", "truncate": "truncate64", "ftruncate": "ftruncate64",
    "fcntl": "fcntl64", "lseek": "_llseek", "sendfile": "sendfile64", "futex": "futex_time64",
    "recvmmsg": "recvmmsg_time64", "ppoll": "ppoll_time64", "pselect6": "pselect6_time64",
    "clock_nanosleep": "clock_nanosleep_time64", "utimensat": "utimensat_time64", "select": "_newselect",
}  # fmt: skip
"""What 32-bit programs call in place of these, or as well."""

_SOCKETCALL = {
    "socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
    "socketpair": 8, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14, "getsockopt": 15,
    "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
}  # fmt: skip
"""Numbers of linux/net.h: by one call, socketcall(2), 32-bit programs make any of these."""

_SOCKETCALL_NUMBER = 102  # arch/x86/entry/syscalls/syscall_32.tbl

_ARCHES = {"x86_64": (0xC000003E, 0x40000003), "aarch64": (0xC00000B7, 0x40000028)}
"""AUDIT_ARCH_* of linux/audit.h, by machine: of its own calls and of 32-bit callers."""


@cache
def _table() -> dict[str, Takes]:
    return {name: takes for takes, names in _GROUPS for name in names.split()}


def takes(name: str) -> Takes:
    """What a system call works on; nothing for one that has neither a descriptor nor a path."""
    return _table().get(name, Takes())


def numbered(names: tuple[str, ...]) -> dict[int, dict[int, str]]:
    """Names by number, by the AUDIT_ARCH of this machine's own callers and of 32-bit ones.

    A number above 0xffff is 0x10000 and a number of socketcall(2), which is there for these alone.

    Raises:
        UnsupportedError: the calls of this machine are not known.
    """
    machine = os.uname().machine
    if machine not in _ARCHES:
        raise UnsupportedError(f"the system calls of {machine} are not known", hint="x86_64 or aarch64")
    own, compat = _ARCHES[machine]
    found: dict[int, dict[int, str]] = {own: {}, compat: {}}
    for name in names:
        if (number := syscalls.number(name)) is not None:
            found[own][number] = name
        for other in (name, _ALSO.get(name, name)):
            if (number := syscalls.number(other, compat=True)) is not None:
                found[compat][number] = other
        if machine == "x86_64" and name in _SOCKETCALL:
            found[compat] |= {_SOCKETCALL_NUMBER: "socketcall", 0x10000 + _SOCKETCALL[name]: name}
    return found


def refused(calls: Calls) -> list[str]:
    """What is wrong with the filters of some calls, one line each."""
    wrong = []
    if calls.path and not calls.path.startswith("/"):
        wrong.append(f"path: {calls.path!r} is not absolute")
    pathless = [name for name in calls.names if not (takes(name).paths or takes(name).fds)]
    if calls.path and pathless:
        wrong.append(f"path: {', '.join(pathless)} works on no file")
    deaf = [name for name in calls.names if not takes(name).fds]
    if calls.sockets != Filters() and deaf:
        wrong.append(f"ports and networks: {', '.join(deaf)} works on no socket")
    return wrong


def expression(path: str) -> str:
    """A regular expression for the whole of every path that ``Calls.path`` means; empty for all."""
    if not path:
        return ""
    if not set(path) & set("*?"):
        return re.escape(path.rstrip("/")) + "(/.*)?"
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(words.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*|\?)", path))
