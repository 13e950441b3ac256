"""eBPF objects, maps and the lease, loaded through the system's libbpf.

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
from ctypes import byref, c_size_t, c_uint32, c_void_p, get_errno
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Protocol

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel.libbpf import checked, library, log
from chaosd.kernel.tracer_rule import FAULTS

_ARRAY, _MMAPABLE = 2, 1 << 10  # BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE
_TYPE_LSM, _LSM_MAC = 29, 27  # BPF_PROG_TYPE_LSM, BPF_LSM_MAC
_CONFIG, _LEASE_SIZE = b".rodata.config", 8 * (1 + 2 * FAULTS)


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


class Map:
    """A BPF map by descriptor; keys and values are bytes."""

    def __init__(self, fd: int, value_size: int = 8) -> None:
        self.fd = fd
        self._value_size = value_size

    def update(self, key: bytes, value: bytes) -> None:
        """Set an entry (``OSError`` as bpf(2) says)."""
        if library().bpf_map_update_elem(self.fd, key, value, 0) < 0:
            raise OSError(get_errno(), f"bpf_map_update_elem: {os.strerror(get_errno())}")

    def delete(self, key: bytes) -> None:
        """Remove an entry, if it is there."""
        library().bpf_map_delete_elem(self.fd, key)

    def items(self, key_size: int) -> Iterator[tuple[bytes, bytes]]:
        """Every entry as it is met; of a map that changes meanwhile some may be missed."""
        value = ctypes.create_string_buffer(self._value_size)
        here, following = None, ctypes.create_string_buffer(key_size)
        while library().bpf_map_get_next_key(self.fd, here, following) == 0:
            here = following.raw
            if library().bpf_map_lookup_elem(self.fd, here, value) == 0:
                yield here, value.raw

    def __contains__(self, key: bytes) -> bool:
        value = ctypes.create_string_buffer(self._value_size)
        return bool(library().bpf_map_lookup_elem(self.fd, key, value) == 0)

    def total(self, index: int) -> int:
        """The sum over all CPUs of one u64 of a per-CPU array."""
        cpus = library().libbpf_num_possible_cpus()
        values = (ctypes.c_uint64 * cpus)()
        key = struct.pack("=I", index)
        if library().bpf_map_lookup_elem(self.fd, key, byref(values)) < 0:
            raise OSError(get_errno(), f"bpf_map_lookup_elem: {os.strerror(get_errno())}")
        return sum(values)


class Lease:
    """The deadline that every program checks, and how strong each fault is: a page shared with the kernel.

    One for all programs of this process (struct lease in probes/include/outcome.h). The deadline starts
    at zero: nothing strikes before the first ``renew``. Children that inherit it may end it, too.
    """

    def __init__(self) -> None:
        self.fd = array("chaosd_lease", _LEASE_SIZE, _MMAPABLE)
        self._page = mmap.mmap(self.fd, mmap.PAGESIZE)

    def renew(self, until: float) -> None:
        """Let the programs strike until a moment of CLOCK_BOOTTIME, in seconds; 0 stops them now."""
        self._page[:8] = struct.pack("=Q", int(until * 1e9))

    def set_share(self, fault: int, share: float) -> None:
        """Let a share (0 to 1) of what a fault has chosen be hit; a smaller one is part of a larger one."""
        self._put(1 + fault, 1 - share)

    def set_strength(self, fault: int, strength: float) -> None:
        """Set how strong a fault is (0 to 1) that has a strength besides its chance, such as a delay."""
        self._put(1 + FAULTS + fault, 1 - strength)

    def _put(self, place: int, missing: float) -> None:
        struct.pack_into("=Q", self._page, 8 * place, round(missing * (1 << 32)))

    @property
    def until(self) -> float:
        """The deadline as it stands."""
        return float(struct.unpack("=Q", self._page[:8])[0] / 1e9)


def array(name: str, size: int, flags: int) -> int:
    """Make a map of one entry (``UnsupportedError`` as bpf(2) says); its descriptor.

    Args:
        name: 15 characters at most.
        size: bytes of the entry.
        flags: ``BPF_F_...``
    """
    options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), map_flags=flags)
    made = library().bpf_map_create(_ARRAY, name.encode(), 4, size, 1, byref(options))
    return checked(made, f"map {name}")


def fix(fd: int, value: bytes) -> None:
    """Say once and for all what is in a map of one entry; programs that are verified later know it."""
    Map(fd).update(bytes(4), value)
    checked(library().bpf_map_freeze(fd), "map")


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


_one_at_a_time = Lock()  # what libbpf complains of is kept in one place


class Object:
    """One compiled probe file, loaded; closing it unloads what nothing else holds.

    Args:
        name: the file is ``chaosd/_probes/NAME.o``.
        config: the bytes of its ``.rodata.config``, if it has one.
        share: maps of other objects to use in place of its own, by name; ``lease`` always is.
        room: how many entries maps are to have, by name, if not as many as they may.
        programs: load only these; all when empty.
        aims: the kernel function that a tracing program is loaded for, by program.
        lsm: the programs that have an aim are loaded for BPF LSM, not for fmod_ret.

    Raises:
        UnsupportedError: the kernel refused; the message holds its reason.
    """

    def __init__(
        self,
        name: str,
        config: bytes = b"",
        *,
        share: Mapping[str, int] | None = None,
        room: Mapping[str, int] | None = None,
        programs: Sequence[str] = (),
        aims: Mapping[str, str] | None = None,
        lsm: bool = False,
    ) -> None:
        self.name = name
        lib = library()
        with _one_at_a_time:
            log.clear()
            opened = lib.bpf_object__open_file(os.fsencode(_path(name)), None)
            self._handle: c_void_p | None = c_void_p(checked(opened, f"probe {name}", null_fails=True))
            try:
                self._prepare(config, share or {}, room or {}, programs)
                for program, function in (aims or {}).items():
                    self._aim(program, function, lsm)
                checked(lib.bpf_object__load(self._handle), f"probe {name} was refused")
            except ChaosdError:
                self.close()
                raise

    def _prepare(
        self, config: bytes, share: Mapping[str, int], room: Mapping[str, int], programs: Sequence[str]
    ) -> None:
        lib = library()
        if config:
            found = c_void_p(lib.bpf_object__find_map_by_name(self._handle, _CONFIG))
            result = lib.bpf_map__set_initial_value(found, config, c_size_t(len(config)))
            checked(result, f"probe {self.name} has a config of another size")
        for name in ("lease", *share):
            if found := lib.bpf_object__find_map_by_name(self._handle, name.encode()):
                fd = share[name] if name in share else lease().fd
                checked(lib.bpf_map__reuse_fd(c_void_p(found), fd), f"probe {self.name}, map {name}")
        for name, entries in room.items():
            if found := lib.bpf_object__find_map_by_name(self._handle, name.encode()):
                lib.bpf_map__set_max_entries(c_void_p(found), c_uint32(entries))
        for program in self._programs():
            if programs and lib.bpf_program__name(program).decode() not in programs:
                lib.bpf_program__set_autoload(program, ctypes.c_bool(False))

    def _aim(self, name: str, function: str, lsm: bool) -> None:
        program = self.handle(name)
        if lsm:
            library().bpf_program__set_type(program, _TYPE_LSM)
            library().bpf_program__set_expected_attach_type(program, _LSM_MAC)
            function = function.removeprefix("security_")
        aimed = library().bpf_program__set_attach_target(program, 0, function.encode())
        checked(aimed, f"program {name} for {function}")

    def _programs(self) -> Iterator[c_void_p]:
        at = library().bpf_object__next_program(self._handle, None)
        while at:
            yield c_void_p(at)
            at = library().bpf_object__next_program(self._handle, c_void_p(at))

    def handle(self, name: str) -> c_void_p:
        """A program as libbpf knows it."""
        return c_void_p(library().bpf_object__find_program_by_name(self._handle, name.encode()))

    def program(self, name: str) -> int:
        """The descriptor of a loaded program; it stays valid until ``close``."""
        return checked(library().bpf_program__fd(self.handle(name)), f"program {name}")

    def has(self, name: str) -> bool:
        """Whether it has a map of this name."""
        return bool(library().bpf_object__find_map_by_name(self._handle, name.encode()))

    def map(self, name: str, value_size: int = 8) -> Map:
        """A map of the object, with the size of its values."""
        found = library().bpf_object__find_map_by_name(self._handle, name.encode())
        return Map(checked(library().bpf_map__fd(c_void_p(found)), f"map {name}"), value_size)

    def close(self) -> None:
        """Unload; programs attached by tc or by a link live on as long as these do."""
        if self._handle is not None:
            library().bpf_object__close(self._handle)
            self._handle = None


def _path(name: str) -> Path:
    path = Path(__file__).parent.parent / "_probes" / f"{name}.o"
    if not path.exists():
        raise UnsupportedError(f"the probe {name}.o is not built", hint="run: make -C probes")
    return path


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
