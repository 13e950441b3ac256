"""ptrace(2) by ctypes, and the registers that decide a system call. Needs the standard library alone.

Every function takes the tid of a thread that is in a ptrace stop. -1 stands for an error: the thread
was killed out of its stop, and its end will be told by wait.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_long, c_void_p, get_errno
from errno import EINTR

WALL = 0x40000000  # __WALL: threads and children of any kind
SYSCALL_STOP = 0x857F  # the status of a stop by SIGTRAP | 0x80 (PTRACE_O_TRACESYSGOOD)
ENTRY, EXIT = 1, 2  # PTRACE_SYSCALL_INFO_ENTRY, _EXIT
EVENT_EXEC, EVENT_STOP = 4, 128

_PEEKUSER, _POKEUSER, _DETACH, SYSCALL = 3, 6, 17, 24
_GETEVENTMSG, _SETREGSET, GET_SYSCALL_INFO = 0x4201, 0x4205, 0x420E
_SEIZE, _INTERRUPT, _LISTEN = 0x4206, 0x4207, 0x4208
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10  # TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC
INFO_SIZE = 88  # struct ptrace_syscall_info

# PyDLL keeps the interpreter's lock, which nobody else wants here: a third quicker than CDLL.
_libc = ctypes.PyDLL(None, use_errno=True)
call = _libc.ptrace
call.argtypes, call.restype = (c_long, c_long, c_long, c_long), c_long
waitpid = _libc.waitpid
waitpid.argtypes, waitpid.restype = (c_int, c_void_p, c_int), c_int

_info = ctypes.create_string_buffer(INFO_SIZE)
INFO_AT = ctypes.addressof(_info)
info = memoryview(_info).cast("B").cast("Q")
"""What ``look`` has read: op and arch << 32, ip, sp, and at entry the number and six arguments."""

_word = ctypes.create_string_buffer(8)
WORD_AT = ctypes.addressof(_word)
_words = memoryview(_word).cast("B").cast("Q")
status = memoryview(_word).cast("B").cast("I")
"""``status[0]`` is what the last ``wait`` was told."""


def wait(flags: int = WALL) -> int:
    """The tid of the next thread that stopped or ended; -1 when a signal came or there is none."""
    return int(waitpid(-1, WORD_AT, flags))


def seize(tid: int) -> int:
    """Begin to trace a thread without stopping it; 0 or the errno."""
    return get_errno() if call(_SEIZE, tid, 0, _OPTIONS) else 0


def interrupt(tid: int) -> bool:
    """Let a traced thread stop; False when there is none of this tid."""
    return bool(call(_INTERRUPT, tid, 0, 0) == 0)


def look(tid: int) -> None:
    """Read into ``info`` what kind of system call stop this is, and of which call."""
    if call(GET_SYSCALL_INFO, tid, INFO_SIZE, INFO_AT) <= 0:
        info[0] = 0


def resume(tid: int, signal: int = 0) -> None:
    """Go on, with a signal if it is for that that it stopped, until the next entry or exit of a call."""
    call(SYSCALL, tid, 0, signal)


def listen(tid: int) -> None:
    """Stay stopped, as a process that was sent SIGSTOP must, yet tell of the SIGCONT."""
    call(_LISTEN, tid, 0, 0)


def detach(tid: int, signal: int = 0) -> None:
    """Trace it no more; it goes on by itself."""
    call(_DETACH, tid, 0, signal)


def message(tid: int) -> int:
    """What belongs to an event: the tid of before at an exec, otherwise that of the child."""
    call(_GETEVENTMSG, tid, 0, WORD_AT)
    return _words[0]


def of_status(tid: int, key: str) -> str:
    """The first word behind a key of /proc/TID/status; empty when there is no such thread."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return next((line.split()[1] for line in file if line.startswith(key)), "")
    except OSError:
        return ""


_RAX, _ORIG_RAX = 80, 120  # in struct user_regs_struct
_NT_PRSTATUS, _NT_ARM_SYSCALL = 1, 0x404
_ERESTARTNOHAND = 514  # linux/errno.h: restart, unless a handler is run


def _fail_x86(tid: int, error: int) -> None:
    # rax first: a tracer that dies between the two has changed nothing, for the call sets rax. With
    # -1 for a number rax stays as it is (arch/x86/entry/syscall_64.c, do_syscall_64).
    call(_POKEUSER, tid, _RAX, -error)
    call(_POKEUSER, tid, _ORIG_RAX, -1)


def _answer_x86(tid: int, error: int) -> None:
    call(_POKEUSER, tid, _RAX, -error)


def _fail_arm(tid: int, error: int) -> None:
    # The number first: x0 is the first argument until then (arch/arm64/kernel/syscall.c).
    _set_arm(tid, _NT_ARM_SYSCALL, -1, 4)
    _answer_arm(tid, error)


def _answer_arm(tid: int, error: int) -> None:
    _set_arm(tid, _NT_PRSTATUS, -error, 8 if info[0] >> 63 else 4)


def _set_arm(tid: int, kind: int, value: int, size: int) -> None:
    ctypes.memmove(INFO_AT + 64, value.to_bytes(8, "little", signed=True), 8)
    info[9], info[10] = INFO_AT + 64, size  # a struct iovec
    call(_SETREGSET, tid, kind, INFO_AT + 72)


def _mend_x86(tid: int, numbers: frozenset[int]) -> None:
    if call(_PEEKUSER, tid, _ORIG_RAX, 0) in numbers and call(_PEEKUSER, tid, _RAX, 0) == -EINTR:
        call(_POKEUSER, tid, _RAX, -_ERESTARTNOHAND)


def _mend_nothing(_tid: int, _numbers: frozenset[int]) -> None:
    pass  # arm64 has decided on a restart before it stops (arch/arm64/kernel/signal.c, do_signal)


_X86 = os.uname().machine == "x86_64"
fail = _fail_x86 if _X86 else _fail_arm
"""``fail(tid, error)``: at its entry let a call return -error, without being made."""
answer = _answer_x86 if _X86 else _answer_arm
"""``answer(tid, error)``: at its exit let a call return -error."""
mend = _mend_x86 if _X86 else _mend_nothing
"""``mend(tid, numbers)``: let calls that a stop has ended with EINTR go on waiting.

The calls of these numbers, such as epoll_wait(2), return EINTR from any stop, signal(7) says. This
one was ours, unless a handler is to run; ERESTARTNOHAND means just that.
"""
