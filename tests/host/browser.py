"""A real browser without a screen: what it draws of a page, what it makes of it, what it complains about."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

Color = tuple[int, int, int]


class Browser:
    """Chromium with a profile of its own below ``folder``."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("chromium")
        if found is None:
            pytest.skip("no chromium here")
        self._program, self._folder = found, folder

    def _run(self, page: Path, *words: str) -> tuple[str, list[str]]:
        argv = [self._program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        argv += [f"--user-data-dir={self._folder / 'profile'}", "--enable-logging=stderr"]
        # no host is looked up: the page must do without
        argv += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000", *words, page.as_uri()]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100)
        return done.stdout, re.findall(r"CONSOLE.*", done.stderr)

    def dom(self, page: Path) -> tuple[str, list[str]]:
        """The document once its scripts have run, and what the console says."""
        return self._run(page, "--dump-dom")

    def colors(self, page: Path, width: int, height: int, *words: str) -> dict[Color, int]:
        """How many pixels there are of each color in a window of that size."""
        picture = self._folder / "picture.png"
        self._run(page, f"--window-size={width},{height}", f"--screenshot={picture}", *words)
        return _colors(picture.read_bytes())


def _colors(png: bytes) -> dict[Color, int]:
    """Of an 8-bit RGB or RGBA picture without interlacing, as the PNG specification has it."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) in ((8, 2), (8, 6))
    size = 3 if kind == 2 else 4
    packed, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        packed += png[at + 8 : at + 8 + length] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    raw, above = zlib.decompress(packed), bytes(width * size)
    found: dict[Color, int] = {}
    for y in range(height):
        start = y * (width * size + 1)
        above = _unfiltered(raw[start], raw[start + 1 : start + 1 + width * size], above, size)
        for x in range(0, width * size, size):
            color = (above[x], above[x + 1], above[x + 2])
            found[color] = found.get(color, 0) + 1
    return found


def _unfiltered(kind: int, line: bytes, above: bytes, size: int) -> bytes:
    done = bytearray(line)
    for i in range(len(line)):
        left, corner = (done[i - size], above[i - size]) if i >= size else (0, 0)
        done[i] = (
            line[i] + (0, left, above[i], (left + above[i]) // 2, _paeth(left, above[i], corner))[kind]
        ) & 255
    return bytes(done)


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda near: abs(guess - near))
