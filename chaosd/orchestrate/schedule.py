"""Schedules as files: a scenario, what is set for it, and when it is due."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from chaosd import document
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.orchestrate import entry, state
from chaosd.orchestrate.entry import Entry, Fields
from chaosd.orchestrate.words import Cron, Zone
from chaosd.places import config_dir
from chaosd.units import Duration

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
Missed = Literal["skip", "run-once"]


class _Document(Fields, frozen=True, kw_only=True):
    cron: Cron
    scenario: str
    timezone: Zone = Zone("")
    jitter: Duration = Duration(0)
    missed: Missed = "skip"
    added_by: str = ""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a scenario is due.

    Args:
        name: its file's name without ``.yaml``.
        entry: the scenario and what is set for it.
        cron: when it is due.
        timezone: of the clock that ``cron`` goes by.
        jitter: each due time is put off by a part of this, which depends on the name and the time alone.
        missed: whether what came due while nobody was there is run afterwards, once.
        added_by: who has had the daemon add it; empty for what root has written down.
    """

    name: str
    entry: Entry
    cron: Cron
    timezone: Zone = Zone("")
    jitter: Duration = Duration(0)
    missed: Missed = "skip"
    added_by: str = ""


def folder() -> Path:
    """Where the files are, one for each schedule."""
    return config_dir() / "schedules.d"


def read_all() -> tuple[list[Schedule], list[str]]:
    """Every schedule in the order of the names, and a line for each file that is none."""
    found, problems = [], []
    for path in sorted(folder().glob("*.yaml")):
        try:
            found.append(read(path))
        except ChaosdError as error:
            problems.append(error.message)
    return found, problems


def find(name: str) -> Schedule:
    """The schedule of a name (``ChaosdError`` if there is none, or its file is wrong)."""
    path = _path(name)
    if not path.is_file():
        raise ChaosdError(f"there is no schedule {name!r}", hint=_known(name))
    return read(path)


def read(path: Path) -> Schedule:
    """Read a file (``ChaosdError`` with everything that is wrong, with file and line)."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), path)


def parse(text: str, name: str, path: Path, sent: str | None = None) -> Schedule:
    """The same from its text.

    Args:
        text: the YAML document.
        name: what to call it in messages.
        path: where it is or is going to be; files of scenarios are looked for beside it.
        sent: what the file of its scenario is going to say, if that is not there yet.
    """
    data, lines = document.load(text, name)
    if not isinstance(data, dict):
        raise ChaosdError(f"{name}: not a schedule", hint="a mapping with cron and scenario")
    problems = Problems(name, lines)
    if not _NAME.match(path.stem):
        problems.add((), f"{path.stem!r} cannot be the name of a schedule", "letters, digits, . _ and -")
    found = document.build(_Document, data, (), problems)
    problems.raise_any()
    assert found is not None
    fields = {key: getattr(found, key) for key in Fields.__struct_fields__}
    word = entry.locate(found.scenario, path.parent) if sent is None else str(path.parent / found.scenario)
    item = Entry(scenario=word, text=sent, **fields)
    entry.check(item, ("scenario",), problems)
    problems.raise_any()
    if entry.aimless(loaded := item.load()):
        problems.add(("scenario",), f"{loaded.name} has no target", "such as target: container:api")
    problems.raise_any()
    own = {key: getattr(found, key) for key in ("cron", "timezone", "jitter", "missed", "added_by")}
    return Schedule(name=path.stem, entry=item, **own)


def draft(name: str, data: dict[str, Any], sent: str | None = None) -> Schedule:
    """A schedule as ``add`` would write it; nothing is written.

    Args:
        name: of the schedule, and of its file.
        data: what the file is to say.
        sent: a scenario in YAML, which gets a file of its own; ``data`` names none then.

    Raises:
        ChaosdError: everything that is wrong with it, or there is one of that name.
    """
    path = _path(name)
    if path.exists():
        raise ChaosdError(
            f"there is a schedule {name!r} already: {path}", hint=f"chaosd schedule remove {name}"
        )
    return parse(_text(name, data, sent), name, path, sent)


def add(name: str, data: dict[str, Any], sent: str | None = None) -> Schedule:
    """Write a schedule; see ``draft``."""
    schedule = draft(name, data, sent)
    if sent is not None:
        state.write(_sent(name), sent.encode())
    state.write(_path(name), _text(name, data, sent).encode())
    return schedule


def remove(name: str) -> None:
    """Delete a schedule's file (``ChaosdError`` if there is none)."""
    try:
        _path(name).unlink()
    except FileNotFoundError:
        raise ChaosdError(f"there is no schedule {name!r}", hint=_known(name)) from None
    _sent(name).unlink(missing_ok=True)


def _text(name: str, data: dict[str, Any], sent: str | None) -> str:
    where = {"scenario": str(_sent(name).relative_to(folder()))} if sent is not None else {}
    return yaml.safe_dump(data | where, sort_keys=False, allow_unicode=True)


def _sent(name: str) -> Path:
    return folder() / "scenarios" / f"{name}.yaml"


def _path(name: str) -> Path:
    if not _NAME.match(name):
        raise ChaosdError(
            f"{name!r} cannot be the name of a schedule", hint="letters, digits, . _ and -, at most 64"
        )
    return folder() / f"{name}.yaml"


def _known(name: str) -> str:
    names = [path.stem for path in folder().glob("*.yaml")]
    return document.near(name, names) if names else "see: chaosd schedule add --help"
