"""The wall clock of a program that chaosd starts, put ahead or behind by a library loaded into it.

The vDSO answers most questions for the time without a system call. So a library of ours
(``probes/clock.preload.c``) stands in front of the C library, and puts right what it was told by as much as a
page says that it shares with this process. That has a deadline, which the engine moves on: nobody needs to
be alive for the clock to be right again.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from chaosd.errors import ChaosdError
from chaosd.kernel import elf, launch
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.edit import Control, Edit, Evidence, Undo
from chaosd.kernel.process import ProcessRef
from chaosd.places import run_dir

LIBRARY = str(Path(__file__).parent.parent / "_probes" / "clock.so")
_PAGE = "CHAOSD_CLOCK"
"""The variable of the environment in which the library finds its page."""
_SUFFIX = ".clock"
_skew = struct.Struct("=QQqq")  # struct page of probes/clock.preload.c: deadline, since, offset, drift
_counts = struct.Struct("=QQ")
_pages: dict[str, mmap.mmap] = {}
_strengths: dict[str, float] = {}


def page_of(run: str, index: int) -> str:
    """Where a run's page for one fault is: beside the run directory, for that is not open to all users."""
    return f"{run_dir()}-{run}-{index}{_SUFFIX}"


def pages() -> list[str]:
    """Every such page that is there."""
    folder = run_dir()
    return sorted(map(str, folder.parent.glob(f"{folder.name}-*{_SUFFIX}")))


def cannot(path: str) -> str:
    """Why a program's clock cannot be changed; empty where nothing stands against it.

    Args:
        path: of its file, which may be a script.
    """
    found, ours = elf.program(path), elf.program(LIBRARY)
    if found is None or ours is None:
        return ""
    if not found.interpreter:
        return f"{found.path} is linked statically: no library can be loaded into it"
    if found.go:
        return f"{found.path} is made by Go, which asks the kernel for the time past all libraries"
    if found.machine != ours.machine or "musl" in found.interpreter:
        return f"{found.path} is loaded by {found.interpreter}, for which chaosd has no library"
    if elf.changes_user(found.path):
        return f"{found.path} takes another user when it starts: no library can be loaded into it"
    return ""


class Clock(Edit, frozen=True, tag="process.clock"):
    """The wall clock of a launched program and all that it starts is wrong.

    Args:
        process: the program.
        page: the file that the library shares with this process.
        offset: seconds by which it is ahead; negative: behind.
        drift: seconds that it gains each second from ``apply`` on; negative: loses.
    """

    process: ProcessRef
    page: str
    offset: float
    drift: float = 0.0

    @property
    def slot(self) -> str:
        """The program has one clock."""
        return f"process.clock:{self.process.pid}.{self.process.start_time}"

    def describe(self) -> str:
        """By how much."""
        drifts = f", and gains {self.drift:+g} s each second" if self.drift else ""
        return f"put the clock of pid {self.process.pid} and children wrong by {self.offset:+g} s{drifts}"

    def apply(self) -> None:
        """Make the page, and have the program begin with the library.

        Raises:
            ChaosdError: it is no program that this process has launched and not begun.
        """
        started = launch.current()
        if started is None or started.process != self.process:
            raise ChaosdError(f"pid {self.process.pid} is no program that chaosd starts", hint="chaosd exec")
        _pages[self.slot] = _make(self.page)
        self._set()
        before = os.environ.get("LD_PRELOAD", "")
        started.setenv("LD_PRELOAD", f"{LIBRARY}:{before}".rstrip(":"))
        started.setenv(_PAGE, self.page)

    def revert(self) -> Undo:
        """End the deadline, and remove the page from where new programs look for it."""
        _pages.pop(self.slot, None)
        _strengths.pop(self.slot, None)
        try:
            end(self.page)
        except FileNotFoundError:
            return Undo.GONE
        return Undo.DONE

    @property
    def control(self) -> Control:
        """Any strength."""
        return "dial"

    def scale(self, strength: float, share: float) -> None:
        """Let the clock be wrong by a part (0 to 1) of it all; it jumps."""
        _strengths[self.slot] = strength
        if self.slot in _pages:
            self._set()

    def _set(self) -> None:
        page, level = _pages[self.slot], _strengths.get(self.slot, 1.0)
        deadline, since, *_ = _skew.unpack_from(page)
        nanoseconds = (round(part * level * 1e9) for part in (self.offset, self.drift))
        _skew.pack_into(page, 0, deadline, since or _boot(), *nanoseconds)

    def present(self) -> bool:
        """Whether the page is there."""
        return os.path.exists(self.page)

    def lost(self) -> str:
        """Somebody removed the page."""
        return "" if self.present() else f"{self.page} was removed by somebody else"

    def renew(self, until: float) -> None:
        """Move the deadline, after which the clock is right."""
        if self.slot in _pages:
            struct.pack_into("=Q", _pages[self.slot], 0, int(until * 1e9))

    def evidence(self) -> Evidence | None:
        """How often the clock was read, and how often wrong; None in a process that did not apply it."""
        if self.slot not in _pages:
            return None
        injected, expired = _counts.unpack_from(_pages[self.slot], _skew.size)
        return Evidence(injected + expired, injected, {"lease": expired} if expired else {}, "clock readings")

    def surroundings(self) -> dict[str, str]:
        """Whether the page is there."""
        return {self.page: "there"} if self.present() else {}


def end(page: str) -> None:
    """Make the clock right for whoever shares a page, and remove it (``FileNotFoundError``: it is gone)."""
    fd = os.open(page, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(fd, bytes(8), 0)
    finally:
        os.close(fd)
    os.unlink(page)


def _make(path: str) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask: the program may be another user's
        os.truncate(fd, mmap.PAGESIZE)
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


def _boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@capability("clock-library")
def LIBRARY_LOADS() -> Verdict:  # noqa: N802 - a capability reads as a constant
    """Whether a program of this host takes the library, and is told a wrong time by it."""
    date, path = shutil.which("date"), page_of("probe", os.getpid())
    if not os.path.exists(LIBRARY) or date is None:
        return Verdict(ok=False, reason=f"no {'date' if date is None else LIBRARY}", mend="make -C probes")
    try:
        run_dir().parent.mkdir(parents=True, exist_ok=True)
        page = _make(path)
        _skew.pack_into(page, 0, _boot() + 60 * 10**9, 0, 3600 * 10**9, 0)
        env = os.environ | {"LD_PRELOAD": LIBRARY, _PAGE: path}
        done = subprocess.run([date, "+%s"], env=env, capture_output=True, text=True, check=False)
        ahead = int(done.stdout or 0) - time.time()
    except OSError as error:
        return Verdict(ok=False, reason=str(error), mend="run as root on the host")
    finally:
        with suppress(FileNotFoundError):
            end(path)
    if abs(ahead - 3600) > 60:
        said = (done.stderr.strip().splitlines() or ["it was loaded, and is not asked"])[0]
        return Verdict(ok=False, reason=said, mend="needs the GNU C library, 2.34 or newer")
    return Verdict(ok=True)
