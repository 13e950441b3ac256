"""What a helper process does before its work; needs the standard library alone."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29


def end_with(parent: int) -> None:
    """Get SIGTERM when the thread that started this process ends: there may be something left to do.

    Raises:
        SystemExit: it has ended already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit("the parent has ended")


def come_first(oom_score: int) -> None:
    """Wake up in time, before others, and be spared when memory runs out.

    Args:
        oom_score: -1000 (never killed) to 0 (as any other), see proc_pid_oom_score_adj(5).
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # ns; 50 us by default, by which delays would be late
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as adjust:
            adjust.write(str(oom_score))
    except OSError:
        pass  # without CAP_SYS_NICE or CAP_SYS_RESOURCE: slower, less safe, still right
