"""A table of the eBPF programs: how large each is, and how much work it is to verify on this kernel.

python tools/probe_table.py     as root; every program is loaded by itself, and attached to nothing
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from ctypes import byref, c_uint32
from pathlib import Path

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf
from chaosd.kernel.libbpf import library

PROBES = Path(bpf.__file__).parent.parent / "_probes"
_XLATED, _VERIFIED, _SIZE = 20, 216, 224  # in struct bpf_prog_info, linux/bpf.h
_ALL = struct.pack("=3Q80xiIII", 0, 0, 1 << 32, -5, 1, 0, 1)  # every call fails, with a path to be found out
_ANSWER = struct.pack("=6B2x", 3, 2, 1, 2, 0, 1)  # questions by name
_AIM = struct.pack("=3Q80xHB5x", 0, 0, 1 << 32, 0, 1)  # of tagged sockets
_CONFIGS = {"override": _ALL, "security": _ALL, "cgroup": _ALL, "gate": _ANSWER}
_ALIKE = tuple(f"chaosd_slot{i}" for i in range(1, 8))


def programs(name: str) -> list[str]:
    """The programs of an object, in its order."""
    handle = ctypes.c_void_p(library().bpf_object__open_file(str(PROBES / f"{name}.o").encode(), None))
    found, at = [], library().bpf_object__next_program(handle, None)
    while at:
        found.append(library().bpf_program__name(ctypes.c_void_p(at)).decode())
        at = library().bpf_object__next_program(handle, ctypes.c_void_p(at))
    library().bpf_object__close(handle)
    return [program for program in found if program not in _ALIKE]


def facts(name: str, program: str) -> tuple[int, int]:
    """Instructions after loading, and instructions that the verifier has followed (0 before Linux 5.16).

    Raises:
        ChaosdError: this kernel refuses the program; the message says why.
    """
    aim = bpf.array("chaosd_aim", len(_AIM), 1 << 7)
    bpf.fix(aim, _AIM)
    probe = bpf.Object(name, _CONFIGS.get(name, b""), share={".rodata.aim": aim}, programs=[program])
    os.close(aim)
    try:
        info, size = ctypes.create_string_buffer(_SIZE), c_uint32(_SIZE)
        library().bpf_obj_get_info_by_fd(probe.program(program), info, byref(size))
    finally:
        probe.close()
    (xlated,), (verified,) = (struct.unpack_from("=I", info, at) for at in (_XLATED, _VERIFIED))
    return xlated // 8, verified


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Object, program, instructions, verified; the last two may be a reason."""
    for path in sorted(PROBES.glob("*.o")):
        for program in programs(path.stem):
            try:
                size, verified = facts(path.stem, program)
            except ChaosdError as error:
                yield path.stem, program, "-", error.message.partition(" (")[0]
            else:
                yield path.stem, program, str(size), str(verified)


def main() -> None:
    """Print the table."""
    for name, program, size, verified in rows():
        sys.stdout.write(f"{name:14} {program:28} {size:>8} {verified}\n")


if __name__ == "__main__":
    main()
