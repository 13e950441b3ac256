"""Where the tracer's process begins; it needs the standard library and its neighbors here alone."""

from __future__ import annotations

import gc
import json
import os

from chaosd.kernel import settle
from chaosd.kernel.tracer_process import Refused, Tracer


def main() -> None:
    """Say that it is there, read one line of settings, then trace."""
    os.write(1, b"up\n")
    said = b""
    while b"\n" not in said:
        if not (part := os.read(0, 1 << 16)):
            return
        said += part
    line, _, said = said.partition(b"\n")
    settings = json.loads(line)
    settle.end_with(settings["parent"])
    settle.come_first(-900)
    gc.disable()  # there are no cycles; a collection would only come late
    try:
        Tracer(settings).run(said)
    except Refused as refused:
        raise SystemExit(f"refused {refused}") from None
