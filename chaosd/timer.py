"""The last one to put a run back by itself: a timer of systemd's, for when engine and watchdog are both dead.

The watchdog makes it when a run has a deadline, beside the engine, which waits for nothing. It fires
some time after everything must be over, and is taken away when the run is closed, by whoever closes
it. What it starts leaves alone a run that is in order, so that one timer too many does no harm.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

GRACE = 15.0
"""Seconds after the deadline of a run; the watchdog, if it lives, has done all by then."""
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_TRANSIENT = "/run/systemd/transient"
_TIMEOUT = 4.0
_ROOT = str(Path(__file__).resolve().parents[1])
_BEGIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from chaosd.cli.main import main; main()"
_HANDED_ON = ("CHAOSD_RUN_DIR", "CHAOSD_STATE_DIR")


class Timer:
    """The timer of one run.

    Args:
        run: its name.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._making: subprocess.Popen[bytes] | None = None

    def arm(self, left: float) -> None:
        """Have systemd make it, once, and do not wait; nothing happens where there is no systemd.

        Args:
            left: seconds until the run's deadline.
        """
        if self._making is None and os.path.isdir(_BOOTED):
            with suppress(OSError):  # without systemd-run there are three layers
                self._making = subprocess.Popen(_command(self._run, left + GRACE))

    def disarm(self) -> None:
        """Take it away, if it was made."""
        if self._making is not None:
            with suppress(subprocess.TimeoutExpired):
                self._making.wait(_TIMEOUT)
            disarm(self._run)


def _command(run: str, seconds: float) -> list[str]:
    again = ["--property=Restart=on-failure", f"--property=RestartSec={GRACE:.0f}"]
    once = ["--timer-property=AccuracySec=1s", "--timer-property=RemainAfterElapse=no"]
    environment = [f"--setenv={name}={os.environ[name]}" for name in _HANDED_ON if name in os.environ]
    when = [
        f"--on-active={seconds:.1f}",
        f"--unit={_unit(run)}",
        f"--description=Put back run {run} of chaosd",
    ]
    chaosd = [sys.executable, "-c", _BEGIN, _ROOT, "revert", run, "--overdue"]
    return ["systemd-run", "--quiet", "--collect", *when, *once, *again, *environment, "--", *chaosd]


def disarm(run: str) -> None:
    """Take away the timer of a run that is closed, if there is one."""
    if not os.path.exists(f"{_TRANSIENT}/{_unit(run)}.timer"):
        return
    with suppress(OSError, subprocess.TimeoutExpired):  # it finds nothing to do, and goes
        command = ["systemctl", "--quiet", "--no-ask-password", "stop", f"{_unit(run)}.timer"]
        subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)


def _unit(run: str) -> str:
    return f"chaosd-run-{run}"
