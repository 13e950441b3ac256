"""eBPF through the system's libbpf: the only module that touches it.

Programs are compiled once (``make -C probes``) into ``chaosd/_probes/NAME.o``. What is loaded lives
as long as this process holds it: ``live`` keeps it by the slot of the edit that loaded it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import CDLL, CFUNCTYPE, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p, get_errno
from functools import cache
from pathlib import Path
from typing import Protocol

from chaosd.errors import ChaosdError, UnsupportedError

CGROUP_SOCK_CREATE, CGROUP_CONNECT4, CGROUP_CONNECT6 = 2, 10, 11
"""Attach types of linux/bpf.h."""

_ARRAY, _MMAPABLE = 2, 1 << 10  # BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE
_WARN = 0
_CONFIG = b".rodata.config"


class Closable(Protocol):
    """Anything that is given back to the kernel by closing it."""

    def close(self) -> None:
        """Give it back."""


live: dict[str, Closable] = {}
"""What this process holds loaded or attached, by edit slot; other processes cannot see it."""


def close(slot: str) -> bool:
    """Give back what is held for a slot; False when this process holds nothing for it."""
    held = live.pop(slot, None)
    if held is not None:
        held.close()
    return held is not None


_log: list[str] = []
_Print = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)


def _keep(level: int, form: bytes, arguments: int) -> int:
    if level == _WARN:
        text = ctypes.create_string_buffer(1 << 16)
        CDLL(None).vsnprintf(text, c_size_t(len(text)), form, c_void_p(arguments))
        _log.extend(text.value.decode("utf-8", "replace").splitlines())
    return 0


_keeper = _Print(_keep)


@cache
def _libbpf() -> CDLL:
    try:
        lib = CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise UnsupportedError("libbpf.so.1 is not installed", hint="install the package libbpf1") from None
    for name in (
        "bpf_object__open_file",
        "bpf_object__find_map_by_name",
        "bpf_object__find_program_by_name",
        "bpf_object__next_program",
    ):
        getattr(lib, name).restype = c_void_p
    lib.bpf_program__name.restype = c_char_p
    lib.libbpf_set_print.restype = c_void_p
    lib.libbpf_set_print(_keeper)
    return lib


def _checked(result: int | None, what: str, *, null_fails: bool = False) -> int:
    if result is None or (null_fails and result == 0) or (not null_fails and result < 0):
        number = get_errno() or -(result or 0)
        raise UnsupportedError(f"{what}: {os.strerror(number)}{_said()}", hint="see: chaosd doctor")
    return result


def _said() -> str:
    lines = [line.removeprefix("libbpf: ").strip() for line in _log]
    _log.clear()
    useful = [line for line in lines if line and not line.startswith(("--", "processed "))]
    complaint = next(
        (line for line in reversed(useful) if not line.startswith(("failed to load", "prog "))), ""
    )
    return f" ({complaint[:200]})" if complaint else ""


class Map:
    """A BPF map by descriptor; keys and values are bytes."""

    def __init__(self, fd: int, value_size: int = 8) -> None:
        self.fd = fd
        self._value_size = value_size

    def update(self, key: bytes, value: bytes) -> None:
        """Set an entry (``OSError`` as bpf(2) says)."""
        if _libbpf().bpf_map_update_elem(self.fd, key, value, 0) < 0:
            raise OSError(get_errno(), f"bpf_map_update_elem: {os.strerror(get_errno())}")

    def delete(self, key: bytes) -> None:
        """Remove an entry, if it is there."""
        _libbpf().bpf_map_delete_elem(self.fd, key)

    def __contains__(self, key: bytes) -> bool:
        value = ctypes.create_string_buffer(self._value_size)
        return bool(_libbpf().bpf_map_lookup_elem(self.fd, key, value) == 0)

    def total(self, index: int) -> int:
        """The sum over all CPUs of one u64 of a per-CPU array."""
        cpus = _libbpf().libbpf_num_possible_cpus()
        values = (ctypes.c_uint64 * cpus)()
        key = struct.pack("=I", index)
        if _libbpf().bpf_map_lookup_elem(self.fd, key, byref(values)) < 0:
            raise OSError(get_errno(), f"bpf_map_lookup_elem: {os.strerror(get_errno())}")
        return sum(values)


class Lease:
    """The deadline that every program checks, in one page shared with the kernel.

    One for all programs of this process. It starts at zero: nothing strikes before the first
    ``renew``. Children that inherit it may end it, too.
    """

    def __init__(self) -> None:
        options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), map_flags=_MMAPABLE)
        made = _libbpf().bpf_map_create(_ARRAY, b"chaosd_lease", 4, 8, 1, byref(options))
        self.fd = _checked(made, "lease map")
        self._page = mmap.mmap(self.fd, mmap.PAGESIZE)

    def renew(self, until: float) -> None:
        """Let the programs strike until a moment of CLOCK_BOOTTIME, in seconds; 0 stops them now."""
        self._page[:8] = struct.pack("=Q", int(until * 1e9))

    @property
    def until(self) -> float:
        """The deadline as it stands."""
        return float(struct.unpack("=Q", self._page[:8])[0] / 1e9)


class _CreateOptions(ctypes.Structure):
    # struct bpf_map_create_opts, as far as map_flags; libbpf takes shorter ones
    _fields_ = (
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
    )


@cache
def lease() -> Lease:
    """The lease of this process."""
    return Lease()


def renew(until: float) -> None:
    """Renew the lease of everything this process has loaded; see ``Lease.renew``."""
    lease().renew(until)


class Object:
    """One compiled probe file, loaded; closing it unloads what nothing else holds.

    Args:
        name: the file is ``chaosd/_probes/NAME.o``.
        config: the bytes of its ``.rodata.config``, if it has one.
        share: maps of other objects to use in place of its own, by name; ``lease`` always is.
        programs: load only these; all when empty.

    Raises:
        UnsupportedError: the kernel refused; the message holds its reason.
    """

    def __init__(
        self,
        name: str,
        config: bytes = b"",
        *,
        share: Mapping[str, int] | None = None,
        programs: Sequence[str] = (),
    ) -> None:
        self.name = name
        lib = _libbpf()
        _log.clear()
        opened = lib.bpf_object__open_file(os.fsencode(_path(name)), None)
        self._handle: c_void_p | None = c_void_p(_checked(opened, f"probe {name}", null_fails=True))
        try:
            self._prepare(config, {**(share or {}), "lease": lease().fd}, programs)
            _checked(lib.bpf_object__load(self._handle), f"probe {name} was refused")
        except ChaosdError:
            self.close()
            raise

    def _prepare(self, config: bytes, share: Mapping[str, int], programs: Sequence[str]) -> None:
        lib = _libbpf()
        if config:
            found = c_void_p(lib.bpf_object__find_map_by_name(self._handle, _CONFIG))
            result = lib.bpf_map__set_initial_value(found, config, c_size_t(len(config)))
            _checked(result, f"probe {self.name} has a config of another size")
        for name, fd in share.items():
            if found := lib.bpf_object__find_map_by_name(self._handle, name.encode()):
                _checked(lib.bpf_map__reuse_fd(c_void_p(found), fd), f"probe {self.name}, map {name}")
        for program in self._programs():
            if programs and lib.bpf_program__name(program).decode() not in programs:
                lib.bpf_program__set_autoload(program, ctypes.c_bool(False))

    def _programs(self) -> Iterator[c_void_p]:
        at = _libbpf().bpf_object__next_program(self._handle, None)
        while at:
            yield c_void_p(at)
            at = _libbpf().bpf_object__next_program(self._handle, c_void_p(at))

    def program(self, name: str) -> int:
        """The descriptor of a loaded program; it stays valid until ``close``."""
        found = _libbpf().bpf_object__find_program_by_name(self._handle, name.encode())
        return _checked(_libbpf().bpf_program__fd(c_void_p(found)), f"program {name}")

    def map(self, name: str, value_size: int = 8) -> Map:
        """A map of the object, with the size of its values."""
        found = _libbpf().bpf_object__find_map_by_name(self._handle, name.encode())
        return Map(_checked(_libbpf().bpf_map__fd(c_void_p(found)), f"map {name}"), value_size)

    def close(self) -> None:
        """Unload; programs attached by tc or by a link live on as long as these do."""
        if self._handle is not None:
            _libbpf().bpf_object__close(self._handle)
            self._handle = None


def _path(name: str) -> Path:
    path = Path(__file__).parent.parent / "_probes" / f"{name}.o"
    if not path.exists():
        raise UnsupportedError(f"the probe {name}.o is not built", hint="run: make -C probes")
    return path


class Link:
    """An attachment that ends when its descriptor is closed, or with this process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Detach."""
        os.close(self.fd)


def link_cgroup(program: int, cgroup: str, kind: int) -> Link:
    """Attach a program to a cgroup v2 directory (``UnsupportedError`` as the kernel says)."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Link(_checked(_libbpf().bpf_link_create(program, fd, kind, None), f"link to {cgroup}"))
    finally:
        os.close(fd)


def link_raw_tracepoint(program: int, name: str) -> Link:
    """Attach a program to a raw tracepoint (``UnsupportedError`` as the kernel says)."""
    opened = _libbpf().bpf_raw_tracepoint_open(name.encode(), program)
    return Link(_checked(opened, f"raw tracepoint {name}"))


class Held:
    """Several closables as one; they are closed in reverse."""

    def __init__(self, *parts: Closable) -> None:
        self.parts = list(parts)

    def close(self) -> None:
        """Give all of them back."""
        while self.parts:
            self.parts.pop().close()


@contextmanager
def undone_on_error(held: Held) -> Iterator[Held]:
    """Close what was gathered when the block fails."""
    try:
        yield held
    except BaseException:
        held.close()
        raise
