"""System calls by name: which there are on this machine, their numbers, and groups of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from chaosd.document import near
from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel.match import Filters

if TYPE_CHECKING:
    from system_calls import syscalls

_TABLES = {"x86_64": ("x86_64", "i386"), "aarch64": ("arm64", "arm")}
"""By machine: the tables of its own calls and of 32-bit callers."""

GROUPS: dict[str, tuple[str, ...]] = {
    "files.open": ("open", "openat", "openat2", "creat"),
    "files.read": ("read", "pread64", "readv", "preadv", "preadv2", "sendfile", "copy_file_range"),
    "files.write": ("write", "pwrite64", "writev", "pwritev", "pwritev2"),
    "files.sync": ("fsync", "fdatasync", "sync_file_range", "syncfs"),
    "files.stat": ("stat", "lstat", "fstat", "newfstatat", "statx"),
    "files.remove": ("unlink", "unlinkat", "rmdir"),
    "files.rename": ("rename", "renameat", "renameat2"),
    "files.make": ("mkdir", "mkdirat", "symlink", "symlinkat", "link", "linkat"),
    "files.allocate": ("fallocate", "ftruncate", "truncate"),
    "sockets.create": ("socket", "socketpair"),
    "sockets.connect": ("connect",),
    "sockets.bind": ("bind",),
    "sockets.listen": ("listen",),
    "sockets.accept": ("accept", "accept4"),
    "sockets.send": ("sendto", "sendmsg", "sendmmsg"),
    "sockets.receive": ("recvfrom", "recvmsg", "recvmmsg"),
    "memory": ("mmap", "brk", "mremap"),
    "processes": ("fork", "vfork", "clone", "clone3"),
    "programs": ("execve", "execveat"),
}
"""Names for several calls that do one thing; those that no caller of a machine makes are left out there."""

NEVER = (
    "exit", "exit_group", "rt_sigreturn", "sigreturn", "restart_syscall",
    "munmap", "futex", "set_robust_list", "set_tid_address", "arch_prctl", "rseq",
)  # fmt: skip
"""What no program survives, and no program checks: an error there tells nothing about it."""


class Calls(msgspec.Struct, frozen=True):
    """Which system calls are meant; an empty field lets everything through.

    Args:
        names: of the calls.
        path: a file by its absolute path, with everything below it; or a pattern: ``*`` and ``?``
            stay within a component, ``**`` does not.
        sockets: the far end of the socket; of one that is bound, listens or accepts its own.
    """

    names: tuple[str, ...]
    path: str = ""
    sockets: Filters = Filters()

    def __str__(self) -> str:
        said = [", ".join(self.names)]
        said += [f"of {self.path}"] if self.path else []
        said += [f"({self.sockets})"] if self.sockets != Filters() else []
        return " ".join(said)


@cache
def _tables() -> syscalls:
    from system_calls import syscalls

    return syscalls()  # type: ignore[no-untyped-call]


def _table(compat: bool) -> str:
    machine = os.uname().machine
    if machine not in _TABLES:
        raise UnsupportedError(f"the system calls of {machine} are not known", hint="x86_64 or aarch64")
    return _TABLES[machine][compat]


def number(name: str, *, compat: bool = False) -> int | None:
    """The number of a system call on this machine; for 32-bit callers with ``compat``; or None."""
    from system_calls import NoSuchSystemCall, NotSupportedSystemCall

    try:
        return int(_tables().get(name, _table(compat)))
    except (NoSuchSystemCall, NotSupportedSystemCall):
        return None


def name(number: int, *, compat: bool = False) -> str:
    """The name of a system call by its number."""
    return str(_tables().get_name(number, _table(compat)))


def names() -> list[str]:
    """Every system call of this machine."""
    return [name for name in _tables().names() if number(name) is not None]


def _is_made_here(name: str) -> bool:
    # by 32-bit callers alone, some of them: arm64 itself has openat and unlinkat, and neither open nor unlink
    return number(name) is not None or number(name, compat=True) is not None


def expand(words: Iterable[str]) -> tuple[str, ...]:
    """The calls that words such as ``read`` or ``files.write`` stand for, each once.

    Raises:
        ChaosdError: a word is neither a call of this machine nor a group, or must never fail.
    """
    found: dict[str, None] = {}
    for word in words:
        if word in GROUPS:
            found |= dict.fromkeys(filter(_is_made_here, GROUPS[word]))
        elif word in NEVER:
            raise ChaosdError(f"{word} cannot be made to fail: no program survives that")
        elif number(word) is not None:
            found[word] = None
        else:
            raise ChaosdError(
                f"unknown system call {word!r}", hint=near(word, (*names(), *GROUPS), "man 2 syscalls")
            )
    return tuple(found)
