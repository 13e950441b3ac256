"""How much I/O of a cgroup there was on a disk, and whether it went as fast as it might."""

from __future__ import annotations

import time
from collections.abc import Mapping

from chaosd.kernel.cgroup import CgroupRef, read
from chaosd.kernel.edit import Evidence

_REACHED = 0.7
"""The share of a limit from which on it counts as reached: the kernel counts in slices of 100 ms."""
_WINDOW = 0.4
"""Seconds that a share is measured over, at least."""


class Meter:
    """Counts the I/O of a cgroup on a device, and how much of it there was while a limit was reached.

    The kernel does not count what it holds back. What is seen is that I/O went as fast as it may.
    """

    def __init__(self, cgroup: CgroupRef, device: str) -> None:
        self._cgroup, self._device = cgroup, device
        self._at, self._last = time.monotonic(), self._read()
        self._all, self._held = 0, 0

    def evidence(self, limits: Mapping[str, float]) -> Evidence:
        """What was counted so far, the time since this was last asked judged by these limits."""
        passed = time.monotonic() - self._at
        if passed >= _WINDOW:
            now = self._read()
            moved = {key: now[key] - self._last[key] for key in now}
            self._at, self._last = self._at + passed, now
            reached = [key for key, value in limits.items() if 0 < moved[key] >= _REACHED * value * passed]
            requests = sum(moved[f"{way}iops"] for way in {key[0] for key in limits})
            self._all += requests
            self._held += requests if reached else 0
        return Evidence(self._all, self._held, unit="I/Os")

    def _read(self) -> dict[str, int]:
        try:
            return _v2(read(self._cgroup, "io.stat"), self._device)
        except FileNotFoundError:
            files = {"bps": "blkio.throttle.io_service_bytes", "iops": "blkio.throttle.io_serviced"}
            return {
                f"{way[0].lower()}{kind}": _v1(self._cgroup, file, f"{self._device} {way} ")
                for kind, file in files.items()
                for way in ("Read", "Write")
            }


def _v2(text: str, device: str) -> dict[str, int]:
    lines = (line.split() for line in text.splitlines())
    words = next((rest for name, *rest in lines if name == device), [])
    counts = {key: int(value) for key, _, value in (word.partition("=") for word in words)}
    names = {"rbps": "rbytes", "wbps": "wbytes", "riops": "rios", "wiops": "wios"}
    return {key: counts.get(name, 0) for key, name in names.items()}


def _v1(cgroup: CgroupRef, file: str, prefix: str) -> int:
    try:
        lines = read(cgroup, file).splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[-1]) for line in lines if line.startswith(prefix)), 0)
