"""Where the tracer's process begins.

It needs the standard library and its neighbors here alone (``ptrace``, ``tracer_process``,
``tracer_filter``, ``tracer_rule``), so that it starts in some 20 ms under ``python -I -S``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal

from chaosd.kernel.tracer_process import Refused, Tracer

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29


def _settle(parent: int) -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit("the parent has ended")
    prctl(_PR_SET_TIMERSLACK, 1)  # ns; 50 us by default, which would be added to every delay
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as adjust:
            adjust.write("-900")
    except OSError:
        pass  # without CAP_SYS_NICE or CAP_SYS_RESOURCE: slower, less safe, still right


def main() -> None:
    """Read one line of settings, then trace."""
    said = b""
    while b"\n" not in said:
        if not (part := os.read(0, 1 << 16)):
            return
        said += part
    line, _, said = said.partition(b"\n")
    settings = json.loads(line)
    _settle(settings["parent"])
    gc.disable()  # there are no cycles; a collection would only come late
    try:
        Tracer(settings).run(said)
    except Refused as refused:
        raise SystemExit(f"refused {refused}") from None
