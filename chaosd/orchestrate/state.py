"""What orchestration must remember over restarts: small JSON files, replaced whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.journal import try_lock
from chaosd.places import run_dir

T = TypeVar("T", bound=msgspec.Struct)


def load(path: Path, kind: type[T]) -> T | None:
    """What was saved there; None when nothing was.

    Raises:
        ChaosdError: the file is there and cannot be read as that.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ChaosdError(f"{path}: cannot be read: {error.strerror}", hint="sudo chaosd ...") from None
    except msgspec.DecodeError as error:
        raise ChaosdError(f"{path}: cannot be read: {error}", hint="remove it to begin anew") from None


def save(path: Path, value: msgspec.Struct) -> None:
    """Write it so that whoever reads, at whatever instant this one dies, finds the old or the new.

    Raises:
        ChaosdError: it cannot be written.
    """
    write(path, msgspec.json.encode(value))


def write(path: Path, data: bytes) -> None:
    """The same for bytes."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ChaosdError(f"{path}: cannot be written: {error.strerror}") from None


def hold(name: str) -> int:
    """Be the only one on this host that does this; a descriptor that holds it until it is closed.

    Raises:
        ChaosdError: another process does it already.
    """
    folder = run_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(fd):
        os.close(fd)
        raise ChaosdError(f"another process already does this: {name}", hint="end it first")
    return fd
