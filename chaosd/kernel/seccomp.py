"""seccomp(2): a filter that stops chosen system calls and hands them to whoever holds its listener."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping

from chaosd.errors import ChaosdError, UnsupportedError

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_PIDFD_GETFD = 438  # the same on every architecture; Linux 5.6
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_SPEC_ALLOW, _NEW_LISTENER, _WAIT_KILLABLE = 1 << 2, 1 << 3, 1 << 5
# linux/bpf_common.h, linux/seccomp.h; the offsets are those of struct seccomp_data
_LOAD, _IF_EQUAL, _JUMP, _RETURN = 0x20, 0x15, 0x05, 0x06
_NUMBER, _ARCH = 0, 4
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_MOST = 4096  # BPF_MAXINSNS
_LINK = "anon_inode:seccomp notify"

_libc = ctypes.CDLL(None, use_errno=True)


def program(numbers: Mapping[int, set[int]]) -> bytes:
    """A filter, as an array of struct sock_filter.

    The kernel remembers what it lets through whatever the arguments (kernel/seccomp.c,
    seccomp_cache_prepare; Linux 5.11), so that its length does not matter to the other calls.

    Args:
        numbers: of the system calls to be stopped, by AUDIT_ARCH; any other goes through.
    """
    code: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, _ARCH)]
    for arch, wanted in numbers.items():
        part = [(_LOAD, 0, 0, _NUMBER)]
        for number in sorted(wanted):
            part += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
        part.append((_RETURN, 0, 0, _ALLOW))
        code += [(_IF_EQUAL, 1, 0, arch), (_JUMP, 0, 0, len(part)), *part]
    code.append((_RETURN, 0, 0, _ALLOW))
    assert len(code) <= _MOST
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(code: bytes) -> int:
    """Put the calling thread under a filter with a listener; returns the errno, or 0.

    The listener is its lowest free descriptor, and closed at exec. ``SPEC_ALLOW`` leaves the program as
    quick as it was (before Linux 5.16 a filter turned mitigations on).
    """
    given = _Program(len(code) // 8, code)
    number = 0
    for killable in (_WAIT_KILLABLE, 0):  # Linux 5.19: a signal with a handler does not repeat the call
        number = _filter(_NEW_LISTENER | _SPEC_ALLOW | killable, given)
        if number == errno.EACCES and not _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            number = _filter(_NEW_LISTENER | _SPEC_ALLOW | killable, given)
        if number != errno.EINVAL:
            break
    return number


def _filter(flags: int, given: _Program) -> int:
    call = _SECCOMP.get(os.uname().machine, -1)
    done = _libc.syscall(call, _SET_MODE_FILTER, ctypes.c_ulong(flags), ctypes.byref(given))
    return ctypes.get_errno() if done < 0 else 0


def listener_of(pid: int) -> int | None:
    """A copy of the listener that a process has got with its filter; None while it has none."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
        found = [int(name) for name in names if os.readlink(f"/proc/{pid}/fd/{name}") == _LINK]
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        copy = _libc.syscall(_PIDFD_GETFD, pidfd, found[-1], 0) if found else -1
    finally:
        os.close(pidfd)
    return copy if copy >= 0 else None


def refusal(number: int) -> ChaosdError:
    """Why there is no filter, in words."""
    if number == errno.EBUSY:
        return UnsupportedError(
            "chaosd itself runs under a filter with a listener, and there can be one only",
            hint="start it outside of the container manager or chaosd exec that made that",
        )
    return UnsupportedError(
        f"seccomp(2) took no filter: {os.strerror(number)}", hint="a kernel with CONFIG_SECCOMP_FILTER"
    )
