"""The library's scenarios aimed at the demo: which service each hits, and on which page that shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaosd.demo import Demo

TRAFFIC = ("/quote?room=double", "/bookings", "/receipt", "POST /bookings")
"""What clients ask for while a scenario runs, so that every fault has something to hit."""


@dataclass(frozen=True)
class Aim:
    """How a scenario is turned on the demo.

    Args:
        service: whose process is the target.
        page: of the booking service: what the steady state looks at.
        port: the service behind the scenario's ``port``, and behind its ``cidrs``.
        path: below the demo's folder.
    """

    service: str = "booking"
    page: str = "/quote?room=double"
    port: str = "pms"
    path: str = ""


_STORED = Aim("database", "/bookings", "database")
_BESIDE = Aim("pms")

BY_CATEGORY = {
    "database": Aim(page="/bookings", port="database"),
    "data": _STORED,
    "process": _BESIDE,
    "time": _BESIDE,
    "resource": Aim(page="/report"),
}
"""What holds for a whole category; ``Aim()`` for the others."""

BY_NAME = {
    "config-permission-denied": Aim(page="/receipt", path="terms.txt"),
    "cpu-pinned": Aim(page="/report"),
    "disk-full": _STORED,
    "disk-io-slowdown": _STORED,
    "disk-read-errors": _STORED,
    "dns-unreachable": Aim(port="names"),
    "exec-failure": Aim(page="/receipt"),
    "fork-failure": _BESIDE,
    "fsync-failure": _STORED,
    "memory-pressure": Aim(page="/report?ms=0"),
    "network-intermittent": Aim(page="/health"),
    "network-latency": Aim(page="/health"),
    "one-way-partition": Aim(page="/bookings", port="database"),
    "out-of-memory": Aim(page="/receipt"),
    "packet-corruption": Aim(page="/health"),
    "resource-exhaustion": _BESIDE,
    "settings-unreadable": Aim(page="/receipt", path="terms.txt"),
    "slow-disk-flush": _STORED,
    "split-brain": Aim(page="/bookings", port="database"),
    "too-many-open-files": _BESIDE,
}
"""What a scenario wants otherwise than its category."""


def aim(name: str, category: str) -> Aim:
    """Where a scenario goes."""
    return BY_NAME.get(name) or BY_CATEGORY.get(category) or Aim()


def words(name: str, category: str, parameters: Mapping[str, Any], demo: Demo) -> list[str]:
    """What stands after ``chaosd run NAME`` to aim it at a running demo.

    Args:
        name: of the scenario.
        category: its category.
        parameters: those it has; only these are set.
        demo: as it is now, for a service that was started again has another pid.
    """
    where = aim(name, category)
    host, _, port = demo.addresses[where.port].rpartition(":")
    values = {
        "url": demo.urls["booking"] + where.page,
        "from": demo.client_netns,
        "port": port,
        "cidrs": f"[{host}/32]",
        "path": f"{demo.folder}/{where.path}".rstrip("/"),
        "file": where.path,
        "status": f"{demo.urls['booking']}/health",
        "closed": "ok",
    }
    settings = [
        word for key, value in values.items() if key in parameters for word in ("--set", f"{key}={value}")
    ]
    return ["--target", f"pid:{demo.pids[where.service]}", *settings]
