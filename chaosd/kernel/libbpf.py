"""The system's libbpf through ctypes: loaded once, its complaints kept, its errors raised in one line."""

from __future__ import annotations

import ctypes
import os
from ctypes import CDLL, CFUNCTYPE, c_char_p, c_int, c_size_t, c_void_p, get_errno
from functools import cache

from chaosd.errors import UnsupportedError

_WARN = 0
_ENOTSUPP = 524  # include/linux/errno.h; not for programs, yet bpf(2) says it

log: list[str] = []
"""What libbpf has complained of since this was last cleared."""
_Print = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)


def _keep(level: int, form: bytes, arguments: int) -> int:
    if level == _WARN:
        text = ctypes.create_string_buffer(1 << 16)
        CDLL(None).vsnprintf(text, c_size_t(len(text)), form, c_void_p(arguments))
        log.extend(text.value.decode("utf-8", "replace").splitlines())
    return 0


_keeper = _Print(_keep)


@cache
def library() -> CDLL:
    """libbpf, with the types that ctypes cannot guess (``UnsupportedError`` where it is not installed)."""
    try:
        lib = CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise UnsupportedError("libbpf.so.1 is not installed", hint="install the package libbpf1") from None
    for name in (
        "bpf_object__open_file",
        "bpf_object__find_map_by_name",
        "bpf_object__find_program_by_name",
        "bpf_object__next_program",
        "bpf_program__attach_kprobe",
        "ring_buffer__new",
    ):
        getattr(lib, name).restype = c_void_p
    lib.bpf_program__name.restype = c_char_p
    lib.libbpf_set_print.restype = c_void_p
    lib.libbpf_set_print(_keeper)
    return lib


def checked(result: int | None, what: str, *, null_fails: bool = False) -> int:
    """A result of libbpf, unless it is an error: then ``UnsupportedError`` with what the kernel said."""
    if result is None or (null_fails and result == 0) or (not null_fails and result < 0):
        number = get_errno() or -(result or 0)
        why = "Not supported" if number == _ENOTSUPP else os.strerror(number)
        raise UnsupportedError(f"{what}: {why}{said()}", hint="see: chaosd doctor")
    return result


def said() -> str:
    """The last complaint of libbpf that tells something, in brackets; it is forgotten then."""
    lines = [line.removeprefix("libbpf: ").strip() for line in log]
    log.clear()
    useful = [line for line in lines if line and not line.startswith(("--", "processed "))]
    complaint = next(
        (line for line in reversed(useful) if not line.startswith(("failed to load", "prog "))), ""
    )
    return f" ({complaint[:200]})" if complaint else ""
