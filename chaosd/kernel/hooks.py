"""Where in the kernel a system call can be made to fail: at its entry, or where security modules are asked.

Which functions a kernel has is read from its symbols, never told from its version.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

import msgspec

from chaosd.kernel import arguments, syscalls
from chaosd.kernel.syscalls import GROUPS

Way = Literal["kprobe", "error-injection", "security", "lsm", "cgroup"]
"""kprobe and error-injection (fmod_ret) are at the call itself, security (fmod_ret) and lsm inside."""

_SENDMSG = ("sendmsg4", "sendmsg6")
CGROUP = {
    "socket": ("sock_create",),
    "bind": ("bind4", "bind6"),
    "connect": ("connect4", "connect6"),
    **dict.fromkeys(GROUPS["sockets.send"], _SENDMSG),
}
"""The programs that meet a call on a cgroup: of IP sockets; of sends, datagrams that say where to."""

ENTRY = 0
"""The bit of the call's own entry; the security hooks follow in the order below (enum hook, call.h)."""

ASYNCHRONOUS, BY_CGROUP = 2, 3
"""In place of 1 for a 32-bit caller: the number is a hook's (call.h) or a program's (cgroup.bpf.c)."""

_READ, _WRITE = GROUPS["files.read"], GROUPS["files.write"]
SECURITY_HOOKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("file_open", GROUPS["files.open"]),
    ("file_permission", (*_READ, "splice", "getdents", "getdents64")),
    ("file_permission", (*_WRITE, "fallocate")),
    ("inode_getattr", GROUPS["files.stat"]),
    ("path_unlink", ("unlink", "unlinkat")),
    ("path_rmdir", ("rmdir", "unlinkat")),
    ("path_rename", GROUPS["files.rename"]),
    ("path_mkdir", ("mkdir", "mkdirat")),
    ("path_symlink", ("symlink", "symlinkat")),
    ("path_link", ("link", "linkat")),
    ("path_truncate", ("truncate", "ftruncate")),
    ("file_truncate", ("ftruncate",)),
    ("path_chmod", ("chmod", "fchmod", "fchmodat")),
    ("path_chown", ("chown", "lchown", "fchown", "fchownat")),
    ("socket_create", GROUPS["sockets.create"]),
    ("socket_bind", GROUPS["sockets.bind"]),
    ("socket_connect", GROUPS["sockets.connect"]),
    ("socket_listen", GROUPS["sockets.listen"]),
    ("socket_accept", GROUPS["sockets.accept"]),
    ("socket_sendmsg", GROUPS["sockets.send"]),
    ("socket_recvmsg", GROUPS["sockets.receive"]),
    ("socket_shutdown", ("shutdown",)),
    ("socket_getsockopt", ("getsockopt",)),
    ("socket_setsockopt", ("setsockopt",)),
    ("task_alloc", GROUPS["processes"]),
    ("bprm_creds_for_exec", GROUPS["programs"]),
    ("mmap_file", ("mmap",)),
    ("vm_enough_memory_mm", ("brk", "mremap")),
    ("file_mprotect", ("mprotect",)),
    ("task_kill", ("kill", "tkill", "tgkill")),
    ("file_ioctl", ("ioctl",)),
    ("file_fcntl", ("fcntl",)),
    ("file_lock", ("flock",)),
)
"""By the order of enum hook: the hook, and the calls that are met there before they have done anything."""

_WITHOUT_FILE = (
    *GROUPS["processes"], *GROUPS["sockets.create"], "brk", "mremap", "kill", "tkill", "tgkill",
)  # fmt: skip
"""Calls whose hooks know no file, so that a path means nothing there."""

_OTHER_NAMES = {
    "stat": "newstat",
    "lstat": "newlstat",
    "fstat": "newfstat",
    "uname": "newuname",
    "sendfile": "sendfile64",
}
"""Calls whose function is called otherwise (arch/x86/entry/syscalls/syscall_64.tbl)."""

_PREFIXES = (("__x64_sys_", "__ia32_compat_sys_", "__ia32_sys_"), ("__arm64_sys_", "__arm64_compat_sys_"))


class Hook(msgspec.Struct, frozen=True):
    """One function of the kernel, and how a program is hung on it."""

    way: Way
    function: str

    @property
    def program(self) -> str:
        """The name of its program in probes/security.bpf.c or probes/cgroup.bpf.c."""
        return f"chaosd_{self.function.removeprefix('security_')}"

    def __str__(self) -> str:
        return f"{self.way}:{self.function}"


@cache
def functions() -> frozenset[str]:
    """The kernel's functions that could be hooks (/proc/kallsyms)."""
    prefixes = "|".join(("security_", *(prefix for prefixes in _PREFIXES for prefix in prefixes)))
    with open("/proc/kallsyms", "rb") as file:
        return frozenset(map(bytes.decode, re.findall(rf" ((?:{prefixes})\w+)".encode(), file.read())))


def entries(call: str) -> list[str]:
    """The functions that are the entry of a call, for 32-bit callers too; empty where there is none."""
    names = (_OTHER_NAMES.get(call, call), call)
    for native, *compat in _PREFIXES:
        own = next((f"{native}{name}" for name in names if f"{native}{name}" in functions()), "")
        if own:
            others = (f"{prefix}{name}" for prefix in compat for name in names)
            return [own, *[name for name in others if name in functions()][:1]]
    return []


def places(call: str) -> dict[int, str]:
    """The security hooks that a call passes here, by their bit."""
    found = {
        bit: f"security_{hook}"
        for bit, (hook, calls) in enumerate(SECURITY_HOOKS, 1)
        if call in calls and f"security_{hook}" in functions()
    }
    if len(found) > 1 and call == "ftruncate":  # path_truncate before Linux 6.2, file_truncate since
        found = {bit: function for bit, function in found.items() if function == "security_file_truncate"}
    return found


def has_file(call: str) -> bool:
    """Whether a security hook of this call knows the file, so that a path can be asked for."""
    return call not in _WITHOUT_FILE and not call.startswith(("socket", "get", "set"))


def subject(call: str) -> tuple[int, int, int, int]:
    """Which argument, from 1, is its descriptor, sockaddr and msghdr; and whether its own end is meant."""
    takes = arguments.takes(call)
    return takes.fds[0] + 1 if takes.fds else 0, takes.address + 1, takes.message + 1, int(takes.own)


def name_of(number: int, compat: int) -> str:
    """The name of a call by its key; for what io_uring did, of the hook where it was met."""
    if compat == BY_CGROUP:
        return ("socket", "bind", "connect", "sendmsg")[number]
    if compat == ASYNCHRONOUS:
        return f"io_uring:{SECURITY_HOOKS[number - 1][0]}"
    return syscalls.name(number, compat=bool(compat))


def keys(call: str) -> list[tuple[int, int]]:
    """(number, 1 for a 32-bit caller) of a call on this machine; socketcall(2) is not looked into."""
    own, compat = arguments.numbered((call,)).values()
    others = [(number, 1) for number, name in compat.items() if name != "socketcall" and number < 0x10000]
    return [*((number, 0) for number in own), *others]
