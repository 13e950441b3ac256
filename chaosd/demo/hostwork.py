"""What the booking service wants of its own host: files, a program, computing and memory."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from chaosd.demo.resilience import DependencyError

_TERMS = "Bookings can be cancelled until six in the evening of the day before.\n"
_LEDGER = 32 * 2**20


def terms_file(folder: str) -> Path:
    """The file that every receipt quotes."""
    return Path(folder, "terms.txt")


def write_files(folder: str) -> None:
    """Make the files that receipts and reports are made from."""
    terms_file(folder).write_text(_TERMS, "utf-8")
    with Path(folder, "ledger").open("wb") as ledger:
        ledger.truncate(_LEDGER)


def receipt(folder: str) -> dict[str, Any]:
    """The terms as they stand in the file, and their checksum by a program.

    Raises:
        DependencyError: the file cannot be read, or the program not be run.
    """
    try:
        text = terms_file(folder).read_text("utf-8")
        done = subprocess.run(["cksum"], input=text, capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise DependencyError(type(error).__name__, f"receipt: {error}") from error
    return {"terms": text.strip(), "checksum": done.stdout.split()[0]}


def read_ledger(folder: str) -> int:
    """Read a file of many years' bookings, which the kernel keeps in memory as long as there is enough."""
    with Path(folder, "ledger").open("rb", buffering=0) as ledger:
        return sum(len(part) for part in iter(lambda: ledger.read(2**20), b""))


def compute(seconds: float) -> None:
    """Use this much CPU time of the calling thread, however long that takes."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
