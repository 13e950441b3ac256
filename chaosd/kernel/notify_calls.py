"""The system calls that a seccomp filter has stopped, and the answers to them (seccomp_unotify(2)).

They lie in memory that a process shares with its children: the kernel itself writes each notification there,
so that none is lost whenever one of them dies. Part of the supervisor's process: needs the standard library
alone.
"""

from __future__ import annotations

import ctypes
from mmap import mmap

SLOTS = 16384
"""Calls that can be held at once; for one more, that which is due first is let go."""

_RECV, _SEND, _ID_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104  # linux/seccomp.h
_CONTINUE, _SYNC_WAKE_UP = 1, 1
_SIZE = 80  # struct seccomp_notif; the id first, then pid, flags, number, arch, ip and six arguments
_EMPTY = bytes(_SIZE)

_ioctl = ctypes.PyDLL(None, use_errno=True).ioctl
_ioctl.argtypes, _ioctl.restype = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p), ctypes.c_int


class Notifications:
    """The stopped calls of one listener, and the answers to them.

    Args:
        listener: its descriptor.
    """

    def __init__(self, listener: int) -> None:
        self.listener = listener
        self._memory = mmap(-1, SLOTS * _SIZE)  # shared with the children of this process
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._longs, self._ints = memoryview(self._memory).cast("Q"), memoryview(self._memory).cast("I")
        self._free = list(range(SLOTS))
        self._response = ctypes.create_string_buffer(24)  # struct seccomp_notif_resp: id, val, error, flags
        self._respond_at = ctypes.addressof(self._response)
        self._response_id = memoryview(self._response).cast("B").cast("Q")
        self._response_ints = memoryview(self._response).cast("B").cast("i")
        _ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)  # Linux 6.6: both are never busy at once

    def receive(self) -> int:
        """The slot of the next stopped call; -1 when its thread was killed meanwhile. One must be waiting."""
        slot = self._free[-1]
        if _ioctl(self.listener, _RECV, self._at + slot * _SIZE) < 0:
            self._memory[slot * _SIZE : (slot + 1) * _SIZE] = _EMPTY
            return -1
        return self._free.pop()

    def full(self) -> bool:
        """Whether there is room for no other one than the next."""
        return len(self._free) < 2

    def of(self, slot: int) -> tuple[int, int, int, list[int]]:
        """Thread, AUDIT_ARCH, number and arguments of a stopped call."""
        ints, first = self._ints, slot * 20
        return (
            ints[first + 2],
            ints[first + 5],
            ints[first + 4],
            self._longs[slot * 10 + 4 : slot * 10 + 10].tolist(),
        )

    def still(self, slot: int) -> bool:
        """Whether its thread still waits for the answer, so that what was read of it was its own."""
        return bool(_ioctl(self.listener, _ID_VALID, self._at + slot * _SIZE) == 0)

    def answer(self, slot: int, error: int = 0) -> None:
        """Let the call be made, or fail with an errno; nothing happens if its thread was killed."""
        self._response_id[0] = self._longs[slot * 10]
        self._response_ints[4], self._response_ints[5] = -error, 0 if error else _CONTINUE
        _ioctl(self.listener, _SEND, self._respond_at)
        self._memory[slot * _SIZE : (slot + 1) * _SIZE] = _EMPTY
        self._free.append(slot)

    def let_go(self) -> None:
        """Let every call be made that another process has taken and not answered."""
        self._free = list(range(SLOTS))
        for slot in range(SLOTS):
            if self._longs[slot * 10]:
                self._free.remove(slot)
                self.answer(slot)
