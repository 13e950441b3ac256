"""What a program's file says about how it is loaded (elf(5))."""

from __future__ import annotations

import os
import stat
import struct

import msgspec

_LOAD_NOTE, _LOAD_INTERPRETER = 4, 3  # PT_NOTE, PT_INTERP
_SCRIPTS = 4  # how many interpreters the kernel follows (exec_binprm(), fs/exec.c)


class Program(msgspec.Struct, frozen=True):
    """An ELF file.

    Args:
        path: of the file.
        machine: its class (1 for 32 bits, 2 for 64) and its machine, as elf(5) has them.
        interpreter: the loader it asks for; empty where it is linked statically.
        go: whether it bears the note of Go's linker (ELF_NOTE_GOBUILDID_TAG, cmd/link/internal/ld/elf.go).
    """

    path: str
    machine: tuple[int, int]
    interpreter: str
    go: bool


def program(path: str) -> Program | None:
    """The program that the kernel starts for a file, through scripts; None where it is no ELF file.

    Raises:
        OSError: it cannot be read.
    """
    for _ in range(_SCRIPTS + 1):
        with open(path, "rb") as file:
            head = file.read(64)
            if head.startswith(b"\x7fELF") and len(head) == 64:
                return _read(path, file.fileno(), head)
            line = (head + file.readline(4096)).split(b"\n", 1)[0]
        if not line.startswith(b"#!") or not (words := line[2:].split()):
            return None
        path = os.fsdecode(words[0])
    return None


def changes_user(path: str) -> bool:
    """Whether a program takes another user or group when it starts (set-user-ID), and so loads nothing."""
    status = os.stat(path)
    as_user = status.st_mode & stat.S_ISUID and status.st_uid != os.getuid()
    return bool(as_user or (status.st_mode & stat.S_ISGID and status.st_gid != os.getgid()))


def _read(path: str, fd: int, head: bytes) -> Program:
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}2H", head, 54 if wide else 42)
    interpreter, go = "", False
    for entry in range(count):
        header = os.pread(fd, size, table + entry * size)
        (kind,) = struct.unpack_from(f"{order}I", header, 0)
        form, places = (f"{order}4Q", 8) if wide else (f"{order}4I", 4)
        offset, _, _, length = struct.unpack_from(form, header, places)
        if kind == _LOAD_INTERPRETER:
            interpreter = os.fsdecode(os.pread(fd, length, offset).rstrip(b"\0"))
        go |= kind == _LOAD_NOTE and struct.pack(f"{order}I", 4) + b"Go\0\0" in os.pread(fd, length, offset)
    return Program(path, (head[4], machine), interpreter, go)
