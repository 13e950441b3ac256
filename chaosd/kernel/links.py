"""Attachments of eBPF programs that end when their descriptor is closed, or with this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int, c_size_t, c_void_p

from chaosd.kernel.libbpf import checked, library

CGROUP_TYPES = {
    "sock_create": 2,
    "bind4": 8,
    "bind6": 9,
    "connect4": 10,
    "connect6": 11,
    "sendmsg4": 14,
    "sendmsg6": 15,
}
"""enum bpf_attach_type of linux/bpf.h, by what stands behind ``cgroup/`` in a section's name."""


class Link:
    """An attachment that ends when its descriptor is closed, or with this process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Detach."""
        os.close(self.fd)


def link_cgroup(program: int, cgroup: str, kind: str) -> Link:
    """Attach a program to a cgroup v2 directory (``UnsupportedError`` as the kernel says)."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Link(
            checked(library().bpf_link_create(program, fd, CGROUP_TYPES[kind], None), f"link to {cgroup}")
        )
    finally:
        os.close(fd)


def link_raw_tracepoint(program: int, name: str) -> Link:
    """Attach a program to a raw tracepoint (``UnsupportedError`` as the kernel says)."""
    opened = library().bpf_raw_tracepoint_open(name.encode(), program)
    return Link(checked(opened, f"raw tracepoint {name}"))


def link_trace(program: int, function: str) -> Link:
    """Attach an fmod_ret or LSM program to the function it was loaded for (``UnsupportedError``)."""
    return Link(checked(library().bpf_raw_tracepoint_open(None, program), f"link to {function}"))


class Kprobe:
    """A program at the entry of a function of the kernel (``UnsupportedError`` as the kernel says).

    Args:
        program: as ``bpf.Object.handle`` returns it.
        function: of the kernel.
    """

    def __init__(self, program: c_void_p, function: str) -> None:
        made = library().bpf_program__attach_kprobe(program, ctypes.c_bool(False), function.encode())
        self._link: c_void_p | None = c_void_p(checked(made, f"kprobe on {function}", null_fails=True))

    def close(self) -> None:
        """Detach."""
        if self._link is not None:
            library().bpf_link__destroy(self._link)
            self._link = None


class Ring:
    """What programs write into a ring buffer map, read as it is asked for.

    Args:
        fd: of the map.
        take: given each record's bytes by ``read``.
    """

    def __init__(self, fd: int, take: Callable[[bytes], None]) -> None:
        def note(_context: int, data: int, size: int) -> int:
            take(ctypes.string_at(data, size))
            return 0

        self._note = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)(note)
        made = library().ring_buffer__new(fd, self._note, None, None)
        self._ring: c_void_p | None = c_void_p(checked(made, "ring buffer", null_fails=True))

    def read(self) -> None:
        """Take what is there."""
        if self._ring is not None:
            library().ring_buffer__consume(self._ring)

    def close(self) -> None:
        """Stop reading; the map is its object's."""
        if self._ring is not None:
            library().ring_buffer__free(self._ring)
            self._ring = None
