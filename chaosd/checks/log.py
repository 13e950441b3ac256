"""Whether a log says something, or does not, while a run lasts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from io import FileIO
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from chaosd.checks.base import AbsolutePath, Check, Failed, Pattern, PerSecond, Reading, now
from chaosd.checks.figures import NUMBER, Figure
from chaosd.errors import UnsupportedError

_SPAN = 5.0
"""Seconds that lines are counted over for ``value``."""
_MOST = 2**22
"""Bytes of a file that one probe reads; the next one goes on there."""
_LINE = 2**13
"""Bytes of a line that are looked at."""
_CURSOR = "-- cursor: "


class Log(Check, frozen=True, kw_only=True, dict=True):
    """``matches`` is found in the lines that a log gets while the run lasts, or is not.

    ``absent`` holds while the lines since the probe before have no match; ``present`` as soon as one
    line since the run began has one; ``any`` only counts, and is left out of the figures of all checks.
    """

    kind: ClassVar[str] = "log"
    gives: ClassVar[Mapping[str, Figure]] = {
        "value": Figure(NUMBER, f"matching lines a second, over the last {_SPAN:g} s"),
        "lines": Figure(NUMBER, "matching lines since the run began"),
    }

    matches: Annotated[Pattern, Meta(description="looked for in each line, its first 8 KiB")]
    file: Annotated[AbsolutePath, Meta(description="a file; it may be rotated")] = AbsolutePath("")
    unit: Annotated[
        str,
        Meta(
            pattern=r"\A([A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*)?\Z",
            description="a unit of systemd, by its journal",
        ),
    ] = ""
    expect: Literal["absent", "present", "any"] = "absent"
    rate: PerSecond = 2.0

    @property
    def judges(self) -> bool:
        """Whether it expects anything."""
        return self.expect != "any"

    @property
    def executes(self) -> str:
        """The file, of which matching lines are shown."""
        return self.file

    def check(self) -> list[str]:
        """A log is a file or the journal of a unit."""
        return [] if bool(self.file) != bool(self.unit) else ["takes one of file and unit"]

    def describe(self) -> str:
        """What must hold."""
        whose = self.file or f"the journal of {self.unit}"
        words = {
            "absent": "no line matches",
            "present": "a line matches",
            "any": "lines are counted that match",
        }
        return f"{whose}: {words[self.expect]} {str(self.matches)!r}"

    def demand(self, *figures: str) -> None:
        """Make sure that there is a way to read the journal."""
        super().demand(*figures)
        if self.unit and shutil.which("journalctl") is None:
            raise UnsupportedError("journalctl is not installed", hint="name the log's file instead")

    def prepare(self) -> None:
        """Begin at the end of what is there."""
        self._counter.source.skip()

    def measure(self) -> Reading:
        """Read what is new."""
        new, figures = self._counter.count(self.within)
        bad = new if self.expect == "absent" else 0
        if bad or (self.expect == "present" and not figures["lines"]):
            raise Failed(
                f"matched {new} lines: {self._counter.last}" if bad else "no match yet", figures=figures
            )
        return Reading(f"{figures['lines']:g} lines matched", figures)

    @cached_property
    def _counter(self) -> _Counter:
        return _Counter(_File(self.file) if self.file else _Journal(self.unit), self.matches)


class _Counter:
    def __init__(self, source: _File | _Journal, pattern: str) -> None:
        self.source = source
        self.last = ""
        self._find = re.compile(pattern).search
        self._lock = threading.Lock()
        self._began = now()
        self._total = 0
        self._recent: deque[tuple[float, int]] = deque()

    def count(self, within: float) -> tuple[int, dict[str, float]]:
        """How many lines matched since this was last asked, and the figures."""
        with self._lock:
            found = [line for line in self.source.lines(within) if self._find(line)]
            at = now()
            self.last = found[-1][:200] if found else self.last
            self._total += len(found)
            self._recent.append((at, len(found)))
            while self._recent[0][0] < at - _SPAN:
                self._recent.popleft()
            span = min(max(at - self._began, 1.0), _SPAN)
            value = sum(number for _, number in self._recent) / span
        return len(found), {"value": value, "lines": float(self._total)}


class _File:
    """The lines that are appended to a file, also when it is moved away and made anew, or emptied."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._rest = b""

    def skip(self) -> None:
        """Begin at its end; a file that is not there yet begins at its start."""
        try:
            self._file = FileIO(self._path)
        except OSError:
            return
        self._file.seek(0, os.SEEK_END)

    def lines(self, within: float) -> list[str]:
        """What is new, whole lines only."""
        del within
        *whole, rest = (self._rest + self._new()).split(b"\n")
        self._rest = rest[:_LINE]
        return [line[:_LINE].decode(errors="replace") for line in whole]

    def _new(self) -> bytes:
        found = os.stat(self._path)
        text = self._file.read(_MOST) if self._file else b""
        if self._file is None or (len(text) < _MOST and not os.path.samestat(found, _stat(self._file))):
            self._file = FileIO(self._path)
            text += (b"\n" if self._rest or text else b"") + self._file.read(_MOST)
        elif found.st_size < self._file.tell():
            self._file.seek(0)
            text += self._file.read(_MOST)
        return text


def _stat(file: FileIO) -> os.stat_result:
    return os.fstat(file.fileno())


class _Journal:
    """The messages that a unit gets in systemd's journal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._cursor = ""

    def skip(self) -> None:
        """Begin at the end of the whole journal."""
        self._ask(10.0, "--lines=1")

    def lines(self, within: float) -> list[str]:
        """What is new."""
        after = [f"--after-cursor={self._cursor}"] if self._cursor else []
        return [line[:_LINE] for line in self._ask(within, f"--unit={self._unit}", *after)]

    def _ask(self, within: float, *words: str) -> list[str]:
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--show-cursor", *words]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=within, check=False
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise Failed(f"journalctl: {said.splitlines()[0]}")
        *lines, last = done.stdout.decode(errors="replace").splitlines() or [""]
        if last.startswith(_CURSOR):
            self._cursor = last.removeprefix(_CURSOR)
            return lines
        return [*lines, last] if last else lines
