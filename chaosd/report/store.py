"""The journals that there are: finished runs, and the one that is live."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaosd.errors import ChaosdError
from chaosd.places import history_dir, run_dir
from chaosd.report.fold import View, of

_header = msgspec.json.Decoder(dict[str, object]).decode


def journals() -> list[Path]:
    """Every journal on this host, the newest first.

    Raises:
        ChaosdError: they are for root.
    """
    found = {path.stem: path for folder in folders() for path in within(folder)}
    return sorted(found.values(), key=_written, reverse=True)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # the run ended just now, and its journal went to the history
        return 0.0


def folders() -> tuple[Path, ...]:
    """Where journals are: of what is live first, then of what is closed."""
    return run_dir(), run_dir() / "finished", history_dir()


def within(folder: Path) -> Iterator[Path]:
    """The journals in a folder, in no order (``ChaosdError`` where they are for root)."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except PermissionError:
        raise ChaosdError("the journals of runs are for root", hint="sudo chaosd ...") from None
    yield from (folder / name for name in names if name.endswith(".jsonl") and not name.startswith("."))


def find(word: str | None) -> Path:
    """The journal of a run.

    Args:
        word: its id or how that begins, or a file; the newest run if None.

    Raises:
        ChaosdError: there is none, or more than one.
    """
    if word and ("/" in word or os.path.isfile(word)):
        return Path(word)
    known = journals()
    if not known:
        raise ChaosdError("there is no run to tell of", hint="chaosd run")
    chosen = [path for path in known if path.stem.startswith(word or "")]
    if not chosen:
        raise ChaosdError(f"there is no run {word!r}", hint="see: chaosd history")
    if len(chosen) > 1 and word:
        raise ChaosdError(f"{word!r} begins more than one run", hint=", ".join(path.stem for path in chosen))
    return chosen[0]


def load(path: Path) -> View:
    """The run whose journal this is.

    Raises:
        ChaosdError: it cannot be read, or is no journal.
    """
    try:
        view = of(path)
    except OSError as error:
        raise ChaosdError(
            f"{path}: {error.strerror}", hint="a run's id, or the file of its journal"
        ) from None
    except (KeyError, TypeError, AttributeError, ValueError):
        view = View()
    if not view.run:
        raise ChaosdError(f"{path} is not the journal of a run", hint="see: chaosd history")
    return view


def scenario(path: Path) -> str:
    """Which scenario a journal is of, from its first line alone; empty when it has none."""
    try:
        with path.open("rb") as file:
            return str(_header(file.readline()).get("scenario", ""))
    except (OSError, msgspec.DecodeError):
        return ""
