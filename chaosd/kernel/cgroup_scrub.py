"""Finding what was left behind with no journal at all: our cgroups, frozen cgroups, stopped processes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress

from chaosd.kernel.cgroup import hierarchies, parent_of
from chaosd.kernel.cgroup_group import dissolve
from chaosd.kernel.edit import MARK, Undo
from chaosd.kernel.process import stopped_pids

_NAME = re.compile(rf"{MARK}-([0-9a-f]{{6}}|probe)(-|\Z)")  # a run's, or a trial's; not the demo's, say


def strays(live: Collection[str] = ()) -> list[str]:
    """The directories of cgroups named ``chaosd-RUN...`` whose run is not among the ``live`` ones.

    A cgroup that a capability is being tried in counts as live while its process is.
    """
    return [path for path in _folders() if _is_ours(path) and not _is_live(path, live)]


def remove(path: str) -> Undo:
    """Send everything in such a cgroup to the cgroup above and remove it (see ``dissolve``)."""
    if not _is_ours(path):
        raise ValueError(f"{path} does not bear our mark")
    return dissolve(path, parent_of(path))


def sweep() -> None:
    """Remove the cgroups of trials whose process was killed: they are empty, at the top of a hierarchy."""
    for mount in set(hierarchies().values()):
        for name in os.listdir(mount):
            path = f"{mount}/{name}"
            if name.startswith(f"{MARK}-probe-") and not _is_live(path, ()):
                with suppress(OSError):
                    os.rmdir(path)


def _is_ours(path: str) -> bool:
    return bool(_NAME.match(os.path.basename(path)))


def _is_live(path: str, live: Collection[str]) -> bool:
    run, _, rest = os.path.basename(path).removeprefix(f"{MARK}-").partition("-")
    if run == "probe":
        return os.path.isdir(f"/proc/{rest.partition('-')[0]}")
    return run in live


def _folders() -> Iterator[str]:
    for mount in sorted(set(hierarchies().values())):
        for folder, _, _ in os.walk(mount):
            yield folder


def leftovers() -> list[str]:
    """Every frozen cgroup and every stopped process on this host, one line each; changes nothing."""
    frozen = [f"cgroup {path} is frozen" for path in _folders() if _is_frozen(path)]
    return frozen + [f"process {pid} is stopped" for pid in stopped_pids()]


def _is_frozen(path: str) -> bool:
    for file, value in (("cgroup.freeze", "1"), ("freezer.self_freezing", "1")):
        try:
            with open(f"{path}/{file}", encoding="ascii") as stream:
                return stream.read().strip() == value
        except OSError:  # another version's file, or the cgroup was removed meanwhile
            continue
    return False
