"""Where the relay's process begins; it needs the standard library and its neighbors here alone."""

from __future__ import annotations

import gc
import os
import signal
import sys
from mmap import PAGESIZE, mmap

from chaosd.kernel import settle
from chaosd.kernel.relay_process import LAYOUT, Relay


def main() -> None:
    """Wait for a line on standard input, which says that the TAP is a device now, then relay.

    The arguments are the root of the package, NAME NETNS-INODE (for whoever looks for the holder of a TAP
    device in /proc), PARENT-PID TAP-FD PAGE-FD LEASE-FD KIND KEY=VALUE... When the parent has ended, the
    lease ends at once: a gate that went on would send packets to a device that is gone.
    """
    parent, tap, page, lease = map(int, sys.argv[4:8])
    deadline = mmap(lease, PAGESIZE)

    def end() -> None:
        deadline[:8] = bytes(8)
        os._exit(0)

    signal.signal(signal.SIGTERM, lambda *_: end())
    settle.end_with(parent)
    settle.come_first(-900)
    if not os.read(0, 1):  # the engine ended before there was a device
        end()
    settings = {key: float(value) for key, _, value in (a.partition("=") for a in sys.argv[9:])}
    # select(2) takes descriptors below 1024 only; the engine may have handed down a higher one.
    low = os.dup(tap)
    os.close(tap)
    relay = Relay(low, settings, sys.argv[8], mmap(page, LAYOUT.size), deadline)
    gc.disable()  # there are no cycles; a collection would only come late
    os.write(1, b"ready\n")
    relay.run(control=0)
    end()
