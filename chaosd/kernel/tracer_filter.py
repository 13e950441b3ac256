"""Whether a system call that is about to be made is of a file or a socket that is meant.

Part of the tracer's process: needs the standard library alone, and looks the caller up in /proc and in
its memory while it is held at the entry of its call.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from ctypes import c_long, c_ulong, c_void_p, get_errno
from errno import ENOSYS
from typing import Any

_PATH_MAX = 4096
_PAGE = 4096  # the smallest there is; a string must not be read across the end of a mapping
_AT_FDCWD = -100
_PIDFD_GETFD = 438  # the same on every architecture; Linux 5.6

_libc = ctypes.PyDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.argtypes = (c_long, c_void_p, c_ulong, c_void_p, c_ulong, c_ulong)
_readv.restype = c_long
_buffer = ctypes.create_string_buffer(_PATH_MAX)
_vectors = (ctypes.c_uint64 * 6)(ctypes.addressof(_buffer), _PATH_MAX)  # here; there, as two
_VECTORS_AT = ctypes.addressof(_vectors)


def memory(tid: int, address: int, size: int = _PATH_MAX) -> bytes:
    """What a thread has at an address: as much of ``size`` bytes, at most 4096, as can be read."""
    first = min(size, _PAGE - address % _PAGE)
    _vectors[2:6] = [address, first, address + first, size - first]
    got = _readv(tid, _VECTORS_AT, 1, _VECTORS_AT + 16, 2, 0)
    if got < 0 and get_errno() == ENOSYS:  # a kernel without CONFIG_CROSS_MEMORY_ATTACH
        return b"".join(_by_file(tid, address, first, size - first))
    return _buffer.raw[: max(got, 0)]


def _by_file(tid: int, address: int, *sizes: int) -> Iterator[bytes]:
    with suppress(OSError), open(f"/proc/{tid}/mem", "rb", buffering=0) as file:
        for size in sizes:
            yield os.pread(file.fileno(), size, address)
            address += size


class Call:
    """A wanted system call: its name, and which of its arguments say what it works on.

    Args:
        name: of the call.
        compat: whether its callers are 32-bit ones.
        takes: the fields of ``arguments.Takes``.
    """

    def __init__(self, name: str, compat: bool, takes: dict[str, Any]) -> None:
        self.name = name
        self.compat = compat
        self.fds: list[int] = takes["fds"]
        self.paths: list[tuple[int, int]] = takes["paths"]
        self.address: int = takes["address"]
        self.message: int = takes["message"]
        self.own: bool = takes["own"]


def _signed(argument: int) -> int:
    # the kernel takes an int from the lower half of the register
    return ((argument & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _file(tid: int, fd: int) -> str:
    link = _link(f"/proc/{tid}/cwd" if fd == _AT_FDCWD else f"/proc/{tid}/fd/{fd}")
    return link.removesuffix(" (deleted)") if link.startswith("/") else ""


def paths(tid: int, call: Call, arguments: list[int]) -> Iterator[str]:
    """Every path that a call works on, absolute and without dots; symbolic links are not followed."""
    for index in call.fds:
        if path := _file(tid, _signed(arguments[index])):
            yield path
    for fd, index in call.paths:
        name = os.fsdecode(memory(tid, arguments[index]).split(b"\0", 1)[0]) if arguments[index] else ""
        if name.startswith("/"):
            yield _normal(_link(f"/proc/{tid}/root") + "/" + name)
        elif base := _file(tid, _AT_FDCWD if fd < 0 else _signed(arguments[fd])):
            yield _normal(f"{base}/{name}") if name else base


def _normal(path: str) -> str:
    return "/" + os.path.normpath(path).lstrip("/")


End = tuple[str, int]  # address, port


class Sockets:
    """The ends of sockets that are meant.

    Args:
        wants: the fields of ``match.Filters``, with networks as (version, network, mask) in numbers
            and the protocol as its two numbers.
    """

    def __init__(self, wants: dict[str, Any]) -> None:
        import _socket  # what `socket` is built on, without its imports

        self._module: Any = _socket
        self._wants = wants

    def end(self, tid: int, tgid: int, call: Call, arguments: list[int]) -> str | None:
        """The end that counts, as text, if the call is of a socket that is meant; otherwise None."""
        sock = self._copy(tgid, _signed(arguments[call.fds[0]]))
        if sock is None:
            return None
        try:
            far = self._far(tid, call, arguments, sock)
            if far is None or not self._meant(sock, far):
                return None
        except (OSError, ValueError):  # it is connected to nobody, or the address is none
            return None
        finally:
            sock.close()
        return f"[{far[0]}]:{far[1]}" if ":" in far[0] else f"{far[0]}:{far[1]}"

    def _copy(self, tgid: int, fd: int) -> Any:
        try:
            pidfd = os.pidfd_open(tgid)
        except OSError:
            return None
        copy = _libc.syscall(_PIDFD_GETFD, pidfd, fd, 0)
        os.close(pidfd)
        if copy < 0:
            return None
        try:
            sock = self._module.socket(-1, -1, -1, copy)
        except OSError:  # a descriptor of something else
            os.close(copy)
            return None
        if sock.family in (self._module.AF_INET, self._module.AF_INET6):
            return sock
        sock.close()
        return None

    def _far(self, tid: int, call: Call, arguments: list[int], sock: Any) -> End | None:
        at, size = 0, 0
        if call.message >= 0:
            at, size = _name_of(memory(tid, arguments[call.message], 16), call.compat)
        elif call.address >= 0:
            at, size = arguments[call.address], arguments[call.address + 1] & 0xFFFFFFFF
        if at:
            return self._parse(memory(tid, at, min(size, 28)))
        if call.own:
            return self._plain(sock.getsockname())
        return self._plain(sock.getpeername())

    def _parse(self, raw: bytes) -> End | None:
        if len(raw) < 16:
            return None
        (family,) = struct.unpack_from("=H", raw)
        (port,) = struct.unpack_from("!H", raw, 2)
        if family == self._module.AF_INET:
            return self._module.inet_ntop(family, raw[4:8]), port
        if family == self._module.AF_INET6 and len(raw) >= 24:
            return self._plain((self._module.inet_ntop(family, raw[8:24]), port))
        return None

    @staticmethod
    def _plain(name: tuple[Any, ...]) -> End:
        host = str(name[0]).partition("%")[0]
        return (host[7:] if host.startswith("::ffff:") and "." in host else host), int(name[1])

    def _meant(self, sock: Any, far: End) -> bool:
        wants, v6 = self._wants, ":" in far[0]
        if wants["protocol"] and sock.proto != wants["protocol"][v6]:
            return False
        if not _port_in(far[1], wants["ports"]):
            return False
        if wants["source_ports"] and not _port_in(self._plain(sock.getsockname())[1], wants["source_ports"]):
            return False
        packed = self._module.inet_pton(self._module.AF_INET6 if v6 else self._module.AF_INET, far[0])
        number, version = int.from_bytes(packed, "big"), 6 if v6 else 4
        inside = [
            any(version == v and number & mask == net for v, net, mask in wants[which])
            for which in ("cidrs", "exclude")
        ]
        return (inside[0] or not wants["cidrs"]) and not inside[1]


def _name_of(header: bytes, compat: bool) -> tuple[int, int]:
    if len(header) < 16:
        return 0, 0
    name, size = struct.unpack_from("=II" if compat else "=QI", header)
    return name, size


def _port_in(port: int, ranges: list[tuple[int, int]]) -> bool:
    return not ranges or any(first <= port <= last for first, last in ranges)


class Filter:
    """What of the wanted calls is meant.

    Args:
        path: a regular expression for the whole path; empty for any.
        sockets: as ``Sockets`` takes it; None for any.
    """

    def __init__(self, path: str, sockets: dict[str, Any] | None) -> None:
        self._path = None
        if path:
            import re

            self._path = re.compile(path, re.DOTALL)
        self._sockets = Sockets(sockets) if sockets else None

    def meets(self, tid: int, tgid: int, call: Call, arguments: list[int]) -> bool:
        """Whether the call of a thread, which is held at its entry, works on what is meant."""
        if self._path is not None and not any(map(self._path.fullmatch, paths(tid, call, arguments))):
            return False
        return self._sockets is None or self._sockets.end(tid, tgid, call, arguments) is not None

    def detail(self, tid: int, tgid: int, call: Call, arguments: list[int]) -> str:
        """The path or the address that such a call works on; empty when it has none."""
        if self._sockets is not None:
            return self._sockets.end(tid, tgid, call, arguments) or ""
        found = list(paths(tid, call, arguments))
        return next((path for path in found if self._path and self._path.fullmatch(path)), "".join(found[:1]))
