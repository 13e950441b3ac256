"""``cgroup:PATH`` as a target: one path, in every hierarchy that has it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from chaosd.errors import ChaosdError
from chaosd.kernel import cgroup
from chaosd.kernel.cgroup import CgroupRef
from chaosd.targets.build import gather, suggest
from chaosd.targets.model import Life, Target
from chaosd.targets.processes import Seen, snapshot


def resolve(word: str) -> Target:
    """The target of ``cgroup:WORD``; it may be empty, and lives as long as its directories.

    Raises:
        ChaosdError: no hierarchy has such a cgroup.
    """
    return of(find(word), snapshot())


def of(
    cgroups: Mapping[str, CgroupRef], table: Mapping[int, Seen], manager: str = "", first: int = 0
) -> Target:
    """The target that some cgroups make, with all their processes; ``first`` is the pid that leads."""
    pids = dict.fromkeys(pid for ref in cgroups.values() for pid in cgroup.members(ref.path))
    processes = [table[pid] for pid in sorted(pids, key=lambda pid: pid != first) if pid in table]
    return gather(processes, table, Life.NONE, cgroups, manager)


def find(word: str) -> dict[str, CgroupRef]:
    """The cgroups that a path means, by hierarchy.

    A path below a mount point means that hierarchy alone; any other is taken below each mount
    point, as it stands in /proc/PID/cgroup.

    Raises:
        ChaosdError: no hierarchy has such a cgroup.
    """
    mounts = cgroup.hierarchies()
    if not mounts:
        raise ChaosdError("no cgroup hierarchy is mounted", hint="mount -t cgroup2 none /sys/fs/cgroup")
    places = _below_mount(word, mounts) or _relative(word, mounts)
    found = {key: CgroupRef.at(path) for key, path in places.items() if _is_cgroup(path)}
    if not found:
        raise ChaosdError(f"there is no cgroup {word!r}", hint=_hint(places, mounts))
    return found


def _is_cgroup(path: str) -> bool:
    return os.path.exists(f"{path}/cgroup.procs")


def _within(path: str, point: str) -> bool:
    return path == point or path.startswith(f"{point}/")


def _below_mount(word: str, mounts: Mapping[str, str]) -> dict[str, str]:
    path = os.path.realpath(word) if word.startswith("/") else ""
    # in hybrid mode v2 may be mounted inside the directory of another mount
    point = max((p for p in mounts.values() if _within(path, p)), key=len, default="")
    return {key: path for key, mount in mounts.items() if mount == point}


def _relative(word: str, mounts: Mapping[str, str]) -> dict[str, str]:
    paths = {key: os.path.normpath(f"{point}/{word}") for key, point in mounts.items()}
    return {key: path for key, path in paths.items() if _within(path, mounts[key])}


def _hint(places: Mapping[str, str], mounts: Mapping[str, str]) -> str:
    wanted, known = "", set()
    for key, place in places.items():
        parent, cut = os.path.dirname(place), len(mounts[key])
        wanted = place[cut:]
        if _is_cgroup(parent):
            known |= {entry.path[cut:] for entry in os.scandir(parent) if entry.is_dir()}
    return suggest(
        wanted, known, "cgroup:", "a path as in /proc/PID/cgroup, such as /system.slice/nginx.service"
    )
