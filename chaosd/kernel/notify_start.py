"""Where the supervisor's process begins; it needs the standard library and its neighbors here alone."""

from __future__ import annotations

import gc
import json
import os
from typing import Any

from chaosd.kernel import settle
from chaosd.kernel.notify_calls import Notifications
from chaosd.kernel.notify_process import Supervisor, stay_in_memory


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
    settle.come_first(-1000)
    stay_in_memory()
    gc.disable()  # there are no cycles; a collection would only come late
    Supervisor(Notifications(listener), begin["launched"], begin["waiting"]).run(control)
