"""Where the supervisor's process begins; it needs the standard library and its neighbors here alone."""

from __future__ import annotations

import ctypes
import gc
import json
import os
from typing import Any

from chaosd.kernel.notify_process import Notifications, Supervisor, stay_in_memory

_PR_SET_TIMERSLACK = 29


def _settle() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # ns; 50 us by default, which delays would be late
    stay_in_memory()
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as adjust:
            adjust.write("-1000")
    except OSError:
        pass  # without CAP_SYS_NICE or CAP_SYS_RESOURCE: slower, less safe, still right


def main() -> None:
    """Take the listener from the socket that is standard input, then supervise."""
    from _socket import socket  # what `socket` is built on, without its imports

    control: Any = socket(-1, -1, -1, os.dup(0))
    control.send(b"up")
    said, ancillary, _, _ = control.recvmsg(4096, 64)
    if not said:
        return  # the engine has changed its mind
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    (listener,) = memoryview(ancillary[0][2]).cast("i")
    begin = json.loads(said)
    _settle()
    gc.disable()  # there are no cycles; a collection would only come late
    Supervisor(Notifications(listener), begin["launched"], begin["waiting"]).run(control)
