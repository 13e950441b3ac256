"""Where chaosd keeps its files, and which boot of the kernel they speak of."""

from __future__ import annotations

import os
from pathlib import Path


def run_dir() -> Path:
    """Where live journals and the host lock are; ``CHAOSD_RUN_DIR`` moves it."""
    return Path(os.environ.get("CHAOSD_RUN_DIR", "/run/chaosd"))


def history_dir() -> Path:
    """Where the journals of finished runs go; ``CHAOSD_STATE_DIR`` moves its parent."""
    return Path(os.environ.get("CHAOSD_STATE_DIR", "/var/lib/chaosd")) / "runs"


def api_socket() -> Path:
    """Where the daemon serves its API; ``CHAOSD_SOCKET`` moves it."""
    return Path(os.environ.get("CHAOSD_SOCKET", "/run/chaosd/api.sock"))


def boot_id() -> str:
    """Which boot of the kernel this is; kernel state of another boot is gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
