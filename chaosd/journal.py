"""The write-ahead log of a run: what was promised, done and put back; and who may act on it.

One file of JSON lines a run. A change is written down, synced, before it is made, so whatever
instant the writer dies at, the file names every change that may exist. A last line torn by a
crash is harmless: its deed had not begun. The file lives in /run, which has the lifetime of the
kernel state it describes and is not on a disk that a run may be slowing down.

Whoever acts on a journal holds its flock(2), which the kernel drops on any death of the owner.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from chaosd import events
from chaosd.errors import BusyError, ChaosdError
from chaosd.kernel.edit import Edit, Undo, to_data
from chaosd.places import boot_id, history_dir, run_dir

Record = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def read(path: Path) -> Iterator[Record]:
    """The records of a journal in order; a torn line is passed over."""
    for line in path.read_bytes().splitlines():
        with suppress(msgspec.DecodeError):
            yield _decode(line)


def try_lock(fd: int, timeout: float = 0.0) -> bool:
    """Take the exclusive flock of an open file, waiting up to ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)
        else:
            return True


class Journal:
    """One run's log, open and locked by this process.

    Args:
        path: the file.
        fd: its descriptor, opened for appending, with the lock held.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.run = path.stem
        self.listener: Callable[[Record], None] | None = None
        self._fd = fd
        self._count = 0
        self._story = events.Story()

    @classmethod
    def create(cls, run: str, listener: Callable[[Record], None] | None = None, **header: Any) -> Journal:
        """Start the journal of a new run with its header record; ``listener`` is given every record."""
        path = run_dir() / f"{run}.jsonl"
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        journal = cls(path, fd)
        journal.listener = listener
        journal.write("run", must=True, run=run, boot=boot_id(), **header)
        return journal

    @classmethod
    def take_over(cls, path: Path, timeout: float) -> Journal | None:
        """Open a journal whose owner has died, waiting up to ``timeout`` seconds for its lock.

        Returns:
            None when somebody else finished the run in the meantime.

        Raises:
            ChaosdError: the lock is still held after ``timeout``.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if not try_lock(fd, timeout):
            os.close(fd)
            raise ChaosdError(f"run {path.stem} is held by another process", hint="chaosd status")
        if not path.exists():
            os.close(fd)
            return None
        journal = cls(path, fd)
        journal._mend()
        return journal

    def _mend(self) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")
        records = self.records()
        self._count = 1 + max((r["n"] for r in records if r["type"] == "intend"), default=-1)
        with suppress(Exception):  # as below
            self._story.add(records[0])

    def records(self) -> list[Record]:
        """Everything written so far."""
        return list(read(self.path))

    def write(self, kind: str, *, sync: bool = True, must: bool = False, **fields: Any) -> None:
        """Append one record.

        Args:
            kind: its type.
            sync: it is on its medium when this returns.
            must: raise ``OSError`` when it cannot be written. Only a promise must be on record before
                anything else is done; nothing that puts back may fail for want of a record.
            fields: whatever else it says.
        """
        record = {"type": kind, "at": time.time(), "t": time.clock_gettime(time.CLOCK_BOOTTIME), **fields}
        try:
            os.write(self._fd, _encode(record) + b"\n")
            if sync:
                os.fdatasync(self._fd)
        except OSError:
            if must:
                raise
        if self.listener is not None:
            try:
                self.listener(record)
            except Exception:  # noqa: BLE001 - who watches must not be able to stop a run that is to be undone
                self.listener = None
        with suppress(Exception):  # nor must a record of another version
            if (event := self._story.add(record)) is not None:
                events.log(event)

    def intend(self, edit: Edit) -> int:
        """Promise a change; must return before the change is begun."""
        number = self._count
        self._count += 1
        self.write("intend", must=True, n=number, edit=to_data(edit), says=edit.describe())
        return number

    def applied(self, number: int) -> None:
        """The promised change is made."""
        self.write("applied", sync=False, n=number)

    def reverted(self, number: int, undo: Undo) -> None:
        """The change is put back, or there was nothing to put back."""
        self.write("reverted", n=number, undo=undo.value)

    def stuck(self, number: int, error: BaseException) -> None:
        """The change could not be put back; it stays open."""
        self.write("stuck", n=number, error=f"{type(error).__name__}: {error}")

    def open_edits(self) -> list[tuple[int, Record]]:
        """What was promised and is not put back yet, in the order of the promises."""
        promised = {}
        for record in self.records():
            if record["type"] == "intend":
                promised[record["n"]] = record
            elif record["type"] == "reverted":
                promised.pop(record["n"], None)
        return list(promised.items())

    def same_boot(self) -> bool:
        """Whether the kernel this journal speaks of is still running."""
        return next(iter(self.records()), {}).get("boot") == boot_id()

    def finish(self) -> Path:
        """Move the journal to the history and let go of it; returns where it is now."""
        place = self._archive()
        self.path.unlink(missing_ok=True)
        self.close()
        return place

    def _archive(self) -> Path:
        # A full or read-only disk costs the history its entry, never the run its end.
        for folder in (history_dir(), run_dir() / "finished"):
            place, part = folder / self.path.name, folder / f".{self.path.name}.{os.getpid()}"
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                part.write_bytes(self.path.read_bytes())
                part.replace(place)
            except OSError:
                continue
            return place
        return self.path

    def close(self) -> None:
        """Let go of the lock; the file stays where it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def live() -> list[Path]:
    """The journals that are not finished, oldest first; held by somebody or left behind."""
    folder = run_dir()
    names = os.listdir(folder) if folder.exists() else []
    found = (folder / name for name in names if name.endswith(".jsonl"))
    return sorted(found, key=lambda path: path.stat().st_mtime)


class HostLock:
    """Only one run at a time on a host; held as long as this object is.

    Raises:
        BusyError: another run holds the host.
    """

    def __init__(self, run: str, name: str) -> None:
        folder = run_dir()
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)  # the API's socket is in it, too
        self._path = folder / "lock"
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not try_lock(self._fd):
                holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip()
                os.close(self._fd)
                raise BusyError(f"another run holds this host: {holder}", hint="chaosd status, chaosd stop")
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(self._fd).st_ino:
                    break
            os.close(self._fd)  # the run before removed it in between
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{run} ({name}, pid {os.getpid()})\n".encode(), 0)

    def release(self) -> None:
        """Let the next run begin, and leave no file."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def tidy() -> None:
    """Remove the host lock that an engine has left which was killed, unless another run has it by now."""
    with suppress(BusyError):
        HostLock("", "").release()
