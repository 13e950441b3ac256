"""Where this kernel lets system calls fail, each place tried with a canary: a child whose call must fail."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf, hooks
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, hierarchies
from chaosd.kernel.hooks import Hook, Way
from chaosd.kernel.injection import Injection
from chaosd.kernel.match import Rule
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.syscalls import Calls, number
from chaosd.kernel.tasks import Members

_INDEX = 63
_PATIENCE = 10
_TRACING = "needs CONFIG_DEBUG_INFO_BTF, CONFIG_BPF_JIT and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"


@contextmanager
def canary(call: Callable[[], int]) -> Iterator[tuple[ProcessRef, Callable[[], int]]]:
    """A child that makes a call when it is told to; what it is told by returns the errno it got."""
    go, told = os.pipe()
    answer, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)  # so that it does not outlive us
        os.read(go, 1)
        os.write(said, call().to_bytes(2, "little"))
        os._exit(0)
    os.close(said)

    def ask() -> int:
        os.write(told, b"!")
        ready = select.select([answer], [], [], _PATIENCE)[0]
        return int.from_bytes(os.read(answer, 2), "little") if ready else 0

    try:
        yield ProcessRef.of(pid), ask
    finally:
        for fd in (go, told, answer):
            os.close(fd)
        os.waitpid(pid, 0)


def _getcpu() -> int:
    failed = ctypes.CDLL(None, use_errno=True).syscall(number("getcpu"), None, None, None) < 0
    return ctypes.get_errno() if failed else 0


def _open() -> int:
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError as error:
        return error.errno or 0
    return 0


def _attempt(way: Way, name: str, function: str, call: Callable[[], int], mend: str) -> Verdict:
    if not function:
        return Verdict(ok=False, reason=f"the kernel has no function to hook {name} at", mend=mend)
    root = hierarchies().get(UNIFIED)
    if root is None:
        return Verdict(ok=False, reason="no cgroup v2 is mounted", mend="mount -t cgroup2 none /mnt")
    before = bpf.lease().until
    with canary(call) as (child, ask):
        members = Members(CgroupRef.at(root), entire=False, processes=(child,))
        edit = Injection(
            "000000", _INDEX, members, Calls((name,)), (Hook(way, function),), Rule(0), errno.EXFULL
        )
        try:
            edit.apply()
            edit.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + _PATIENCE)
            met = ask() == errno.EXFULL
        except (ChaosdError, OSError) as error:
            said = getattr(error, "message", str(error)).partition(" (")[0].rpartition(": ")[2]
            return Verdict(ok=False, reason=f"the kernel says {said}", mend=mend)
        finally:
            bpf.renew(before)
            edit.revert()
    return Verdict(ok=met, reason="" if met else "it attaches, and never runs", mend="" if met else mend)


def _at_entry(way: Way, option: str) -> Verdict:
    function = next(iter(hooks.entries("getcpu")), "")
    return _attempt(way, "getcpu", function, _getcpu, f"needs {option}")


@capability("kprobe-override", lasting=True)
def KPROBE() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether a kprobe may override what a system call returns."""
    return _at_entry("kprobe", "CONFIG_BPF_KPROBE_OVERRIDE")


@capability("error-injection", lasting=True)
def ERROR_INJECTION() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether fmod_ret may replace a system call."""
    return _at_entry("error-injection", "CONFIG_FUNCTION_ERROR_INJECTION")


@capability("security-hooks", lasting=True)
def SECURITY() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether fmod_ret may answer in place of the kernel's security modules."""
    return _attempt("security", "openat", "security_file_open", _open, _TRACING)


@capability("bpf-lsm", lasting=True)
def LSM() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether BPF is among the active security modules; in many kernels it attaches and never runs."""
    mend = "boot with bpf in lsm=, which /sys/kernel/security/lsm shows"
    return _attempt("lsm", "openat", "security_file_open", _open, mend)
