"""The C source of a user's probe: read with care, and put behind the prelude that makes it obey chaosd."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from pathlib import Path

import msgspec

from chaosd.errors import ChaosdError, UnsupportedError

_PRELUDE = ("mix.h", "outcome.h", "custom.h", "roles.h", "prelude.h")
"""What stands in front, from probes/include; in one text, for bcc rewrites maps in no other file."""
_LARGEST = 256 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[ -~]{1,128}")

Parameters = tuple[tuple[str, int | str], ...]
"""Names, and numbers or words."""


class Source(msgspec.Struct, frozen=True):
    """A file as it was read: its absolute path, the SHA-256 of what was in it, and that text."""

    path: str
    sha256: str
    text: str


def read(path: str) -> Source:
    """Read a source that nobody else can have written: root will run it in the kernel.

    Raises:
        ChaosdError: it cannot be read, is too large, or another user could have changed it.
    """
    place = os.path.abspath(path)
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for a FIFO's writer
    except OSError as error:
        raise ChaosdError(f"{place}: {error.strerror}", hint="source: the probe's C file") from None
    try:
        _check(place, os.fstat(fd))
        with open(fd, "rb", closefd=False) as file:
            raw = file.read(_LARGEST + 1)
    finally:
        os.close(fd)
    if len(raw) > _LARGEST:
        raise ChaosdError(
            f"{place} is larger than {_LARGEST // 1024} KiB", hint="a probe is a few lines of C"
        )
    try:
        return Source(place, hashlib.sha256(raw).hexdigest(), raw.decode())
    except UnicodeDecodeError:
        raise ChaosdError(f"{place} is not UTF-8 text", hint="source: the probe's C file") from None


def _check(place: str, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ChaosdError(f"{place} is not a regular file", hint="source: the probe's C file")
    caller = os.environ.get("SUDO_UID", "")
    ours = {0, os.getuid(), int(caller) if caller.isdigit() else 0}
    if about.st_uid not in ours:
        raise ChaosdError(f"{place} belongs to user {about.st_uid}", hint=f"chown root {place}")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ChaosdError(f"{place} can be written by others than its owner", hint=f"chmod go-w {place}")


def wrong_parameters(parameters: dict[str, int | str]) -> list[str]:
    """What is wrong with parameters, one line each."""
    wrong = [f"{name!r} is no name for C" for name in parameters if not _NAME.fullmatch(name)]
    names = [name.upper() for name in parameters]
    wrong += [f"{name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for name, value in parameters.items():
        if isinstance(value, str) and not _WORD.fullmatch(value):
            wrong.append(f"{name}: a word has 1 to 128 printable ASCII characters")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            wrong.append(f"{name}: {value} does not fit into 64 bits")
    return wrong


def defines(parameters: Parameters) -> str:
    """The parameters as macros: numbers, errno names as their numbers, other words as C strings."""
    return "".join(f"#define PARAM_{name.upper()} {_literal(value)}\n" for name, value in parameters)


def _literal(value: int | str) -> str:
    if isinstance(value, str) and value in errno.errorcode.values():
        return str(getattr(errno, value))
    if isinstance(value, str):
        # Octal, for ?? may begin a trigraph, and what is no letter may end the literal.
        return '"' + "".join(c if c.isalnum() else f"\\{ord(c):03o}" for c in value) + '"'
    # C has no negative literals: -9223372036854775808 would be minus a number that does not fit.
    return f"({value}LL)" if value > -(1 << 63) else "(-9223372036854775807LL - 1)"


def compose(source: Source, parameters: Parameters) -> str:
    """What bcc is to compile; its messages name places in the user's file.

    Raises:
        UnsupportedError: the prelude is not installed.
    """
    folder = Path(__file__).parent.parent / "_probes"
    try:
        parts = [(name, (folder / name).read_text("utf-8")) for name in _PRELUDE]
    except FileNotFoundError:
        raise UnsupportedError("the prelude of probes is not built", hint="run: make -C probes") from None
    kept = [f'#line 1 "{name}"\n{_without_directives(text)}\n' for name, text in parts]
    name = source.path.replace("\\", "\\\\").replace('"', '\\"')
    return f'{"".join(kept)}{defines(parameters)}#line 1 "{name}"\n{source.text}\n'


def _without_directives(text: str) -> str:
    return re.sub(r"^#(include|pragma once).*$", "", text, flags=re.MULTILINE)
