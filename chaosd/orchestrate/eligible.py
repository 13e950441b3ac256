"""Which targets of this host the monkey may choose from: by pattern or label, less what is to be spared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import msgspec

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import containers
from chaosd.kernel.systemd import SYSTEMD, systemctl
from chaosd.places import config_dir
from chaosd.targets.processes import roots, snapshot
from chaosd.targets.protect import is_chaosd

OPT_OUT = ("chaos", "no")
"""The label, and its value, of a container that is never chosen."""


class Containers(msgspec.Struct, frozen=True, kw_only=True):
    """Containers by a label such as ``chaos=yes``, or by patterns of their names."""

    label: str = ""
    names: list[str] = []


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """What is eligible; ``*`` and ``?`` in a pattern stand for any letters, and any one letter."""

    units: list[str] = []
    containers: Containers | None = None
    comm: list[str] = []


class Candidate(msgspec.Struct, frozen=True):
    """A target that may be chosen, and the words by which it can be spared, its own among them."""

    word: str
    names: tuple[str, ...]


def find(targets: Targets, exclude: Iterable[str]) -> tuple[list[Candidate], list[str]]:
    """The targets there are now, in the order of their words.

    Args:
        targets: what is eligible.
        exclude: patterns of words, such as ``unit:db-*``; those of ``spared()`` come on top.

    Returns:
        The candidates, and a line for each kind of target that could not be asked for.
    """
    spared = [*exclude, *spared_by_host()]
    found: dict[str, Candidate] = {}
    problems = []
    for kind in (_units(targets), _containers(targets), _processes(targets)):
        try:
            for each in kind:
                if not any(fnmatchcase(name, pattern) for name in each.names for pattern in spared):
                    found[each.word] = each
        except ChaosdError as error:
            problems.append(error.message)
    return [found[word] for word in sorted(found)], problems


def spared_by_host() -> list[str]:
    """Patterns that the owners of services have put into ``spared.d/*.conf``, one a line.

    Raises:
        ChaosdError: such a file cannot be read; it may hold what must be spared.
    """
    patterns = []
    for path in sorted((config_dir() / "spared.d").glob("*.conf")):
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ChaosdError(f"{path}: cannot be read: {error}") from None
        patterns += [text for line in lines if (text := line.partition("#")[0].strip())]
    return patterns


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _units(targets: Targets) -> Iterator[Candidate]:
    if not targets.units:
        return
    if not (verdict := SYSTEMD()).ok:
        raise UnsupportedError(verdict.reason)
    shown = systemctl("list-units", "--state=active", "--plain", "--no-legend", "--no-pager")
    for name in (line.split()[0] for line in shown.splitlines() if line.strip()):
        if _matches(name, targets.units):
            yield Candidate(f"unit:{name}", (f"unit:{name}",))


def _containers(targets: Targets) -> Iterator[Candidate]:
    wanted = targets.containers
    if wanted is None:
        return
    for endpoint in containers.endpoints():
        with containers.engine(endpoint) as client:
            running = client.api.containers()
        for each in running:
            names = [name.lstrip("/") for name in each["Names"]]
            if _wanted(wanted, names, each.get("Labels") or {}):
                yield Candidate(f"container:{names[0]}", tuple(f"container:{name}" for name in names))


def _wanted(wanted: Containers, names: list[str], labels: dict[str, str]) -> bool:
    key, equals, value = wanted.label.partition("=")
    if labels.get(OPT_OUT[0]) == OPT_OUT[1]:
        return False
    if wanted.label and (key not in labels or (equals and labels[key] != value)):
        return False
    return not wanted.names or any(_matches(name, wanted.names) for name in names)


def _processes(targets: Targets) -> Iterator[Candidate]:
    """One for each process tree: a name that several have would be a wider target than one service."""
    table = snapshot()
    chosen = [p.pid for p in table.values() if _matches(p.comm, targets.comm) and not is_chaosd(p)]
    for pid in roots(chosen, table):
        yield Candidate(f"pid:{pid}", (f"pid:{pid}", f"comm:{table[pid].comm}"))
