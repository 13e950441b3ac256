"""The demo under traffic, and the library's scenarios aimed at it: which service, on which page it shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaosd import demo
from chaosd.demo import Demo, Load, Settings
from chaosd.demo.load import Ask

SEED = 12
"""With it even a chance of 5% strikes among the first ten."""
FOLDER = Path(__file__).resolve().parents[1] / "build" / "chaos"
"""Where everything goes that a make target writes."""
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
_TO_DATABASE = Aim(page="/bookings", port="database")
_BESIDE = Aim("pms")

BY_CATEGORY = {
    "database": _TO_DATABASE,
    "data": _STORED,
    "process": _BESIDE,
    "time": _BESIDE,
    "resource": Aim(page="/report"),
}
"""What holds for a whole category; ``Aim()`` for the others."""

BY_NAME = {
    "connection-resets": _TO_DATABASE,
    "config-permission-denied": Aim(page="/receipt", path="terms.txt"),
    "cpu-pinned": Aim(page="/report"),
    "descriptors-run-out": _BESIDE,
    "disk-full": _STORED,
    "disk-io-slowdown": _STORED,
    "disk-read-errors": _STORED,
    "disk-throttling": _STORED,
    "dns-unreachable": Aim(port="names"),
    "exec-failure": Aim(page="/receipt"),
    "fork-failure": _BESIDE,
    "fsync-failure": _STORED,
    "memory-pressure": Aim(page="/report?ms=0"),
    "network-intermittent": Aim(page="/health"),
    "network-latency": Aim(page="/health"),
    "one-way-partition": _TO_DATABASE,
    "out-of-memory": Aim(page="/receipt"),
    "packet-corruption": Aim(page="/health"),
    "resource-exhaustion": _BESIDE,
    "settings-unreadable": Aim(page="/receipt", path="terms.txt"),
    "slow-disk-flush": _STORED,
    "split-brain": _TO_DATABASE,
    "too-many-open-files": _BESIDE,
}
"""What a scenario wants otherwise than its category."""


_SLOW_DISK = "32kB/s"
"""What disk-throttling leaves: less than the demo's database writes."""
_FILL = 1 << 30
"""Bytes that disk-filling takes at most: the file system is the host's, and others change what is free."""


def _left(folder: str) -> int:
    """How many bytes are to stay free."""
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    return free - min(_FILL, free // 4)


@contextmanager
def busy(settings: Settings, rate: float = 12) -> Iterator[Demo]:
    """A demo that clients use all the time, so many times a second."""
    book = json.dumps({"room": "double", "guest": "Ann"})
    with demo.up(settings) as d:
        home = d.urls["booking"]
        asks = [
            Ask(home + word.removeprefix("POST "), book if word.startswith("POST ") else "")
            for word in TRAFFIC
        ]
        clients = Load(asks, seconds=86_400, rate=rate, timeout=2, netns=d.client_netns)
        threading.Thread(target=clients.run, daemon=True).start()
        yield d


def chaosd(*argv: str, seconds: float | None = None) -> int:
    """Run chaosd in this terminal and wait for it; its exit status.

    Args:
        argv: what stands after ``chaosd``.
        seconds: after which it is asked to end.
    """
    process = subprocess.Popen([sys.executable, "-m", "chaosd", *argv])
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.terminate()
                seconds = None
            except KeyboardInterrupt:
                seconds = None  # it was told by the terminal as well, and ends in order
    finally:
        signal.signal(signal.SIGTERM, before)


def write(path: Path, data: dict[str, Any]) -> str:
    """Write a file for chaosd, and its folder if need be; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return str(path)


def aim(name: str, category: str) -> Aim:
    """Where a scenario goes."""
    return BY_NAME.get(name) or BY_CATEGORY.get(category) or Aim()


def fields(name: str, category: str, parameters: Mapping[str, Any], demo: Demo) -> dict[str, Any]:
    """What a suite says of a scenario to aim it at a running demo: its target, and what to set.

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
        "port": int(port),
        "cidrs": [f"{host}/32"],
        "leave": f"{_left(demo.folder)}B",
        "path": f"{demo.folder}/{where.path}".rstrip("/"),
        "status": f"{demo.urls['booking']}/health",
        "closed": "ok",
        "file": where.path,
        "spare": 0,
        "read": _SLOW_DISK,
        "write": _SLOW_DISK,
    }
    fitting = {key: value for key, value in values.items() if key in parameters}
    return {"target": f"pid:{demo.pids[where.service]}", "set": fitting}


def words(name: str, category: str, parameters: Mapping[str, Any], demo: Demo) -> list[str]:
    """The same as it stands after ``chaosd run NAME``."""
    aimed = fields(name, category, parameters, demo)
    settings = [
        word for key, value in aimed["set"].items() for word in ("--set", f"{key}={json.dumps(value)}")
    ]
    return ["--target", aimed["target"], *settings]
