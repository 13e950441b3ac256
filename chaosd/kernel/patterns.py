"""Paths of files as probes match them: a file or folder with all below it, or a pattern."""

from __future__ import annotations

import re
import struct

_SIZE = 256  # PATTERN in probes/include/path.h
_LETTERS = {"?": "\1", "*": "\2", "**": "\3"}


def check(path: str) -> str:
    """What is wrong with a path as a filter; nothing if it can be used."""
    if not path.startswith("/"):
        return f"{path!r} is not absolute (such as /var/lib/app or /etc/app/*.conf)"
    if not path.isprintable() or "//" in path or re.search(r"/\.\.?(/|\Z)", path):
        return f"{path!r} is not the plain path of a file: no //, no . and no .. in it"
    if len(path.encode()) >= _SIZE:
        return f"a path of {len(path.encode())} bytes is too long (at most {_SIZE - 1})"
    return ""


def is_glob(path: str) -> bool:
    """Whether it has a ``*`` or ``?`` in it."""
    return "*" in path or "?" in path


def pack(path: str) -> bytes:
    """As struct pattern; an empty path covers everything."""
    glob = is_glob(path)
    text = re.sub(r"\*\*|\*|\?", lambda match: _LETTERS[match[0]], path) if glob else path.rstrip("/")
    return struct.pack(f"=I4x{_SIZE}s", glob, text.encode())
