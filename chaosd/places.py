"""Where chaosd keeps its files, and which boot of the kernel they speak of."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def run_dir() -> Path:
    """Where live journals and the host lock are; ``CHAOSD_RUN_DIR`` moves it."""
    return Path(os.environ.get("CHAOSD_RUN_DIR", "/run/chaosd"))


def state_dir() -> Path:
    """Where what must outlive a reboot is; ``CHAOSD_STATE_DIR`` moves it."""
    return Path(os.environ.get("CHAOSD_STATE_DIR", "/var/lib/chaosd"))


def history_dir() -> Path:
    """Where the journals of finished runs go."""
    return state_dir() / "runs"


def config_dir() -> Path:
    """Where schedules, and what is to be spared, are written by people; ``CHAOSD_CONFIG_DIR`` moves it."""
    return Path(os.environ.get("CHAOSD_CONFIG_DIR", "/etc/chaosd"))


def api_socket() -> Path:
    """Where the daemon serves its API; ``CHAOSD_SOCKET`` moves it."""
    return Path(os.environ.get("CHAOSD_SOCKET", "/run/chaosd/api.sock"))


@cache  # no process outlives one
def boot_id() -> str:
    """Which boot of the kernel this is; kernel state of another boot is gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
