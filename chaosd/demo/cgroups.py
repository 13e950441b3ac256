"""A cgroup for each service, as on a host where systemd or a container engine starts them.

Faults that a service shares with what else is in its cgroup, such as a neighbor that takes memory,
have somewhere to be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROLLERS = ("cpu", "memory")
LIMIT = 512 << 20
"""Bytes of memory that a service may have; it takes a twentieth."""


def _homes() -> dict[str, Path]:
    """Where a controller's cgroups are: v2's tree if its children have it, else one of v1."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2":
            given = Path(place, "cgroup.subtree_control").read_text("ascii").split()
        else:
            given = options.split(",") if kind == "cgroup" else []
        found |= {name: Path(place) for name in CONTROLLERS if name in given and name not in found}
    return found


def places(name: str) -> Iterator[Path]:
    """Where the cgroups of this name are, or would be."""
    yield from (home / name for home in dict.fromkeys(_homes().values()))


def join(name: str) -> None:
    """Move this process into cgroups of its own, made if they are not there; none where it may not."""
    for place in places(name):
        with suppress(PermissionError):
            place.mkdir(exist_ok=True)
            for limit in ("memory.max", "memory.limit_in_bytes"):
                if (place / limit).exists():
                    (place / limit).write_text(str(LIMIT), "ascii")
            (place / "cgroup.procs").write_text(str(os.getpid()), "ascii")


def remove(name: str) -> None:
    """Remove them, once those in them have ended; what is not empty after a second is left."""
    for place in places(name):
        for _ in range(50):
            try:
                place.rmdir()
            except FileNotFoundError:
                break
            except OSError:  # who was killed just now is still in it
                time.sleep(0.02)
            else:
                break
