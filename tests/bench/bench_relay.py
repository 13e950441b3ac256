"""How fast the relay is, and how exact: ``python tests/bench/bench_relay.py``, as root.

Everything is measured in one run on one machine and told as ratios: packets through the relay by
packets without it, and the error of a delay by the delay.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "host")]

import world  # noqa: E402
from detour import RIGHT, Detour, detour, receive, stamped  # noqa: E402

PORT = 4000
SECONDS = 2.0
FLOOD = """
import socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.connect((sys.argv[1], int(sys.argv[2])))
while True:
    out.send(bytes(64))
"""
LOADS = {
    "nothing": {},
    "delay": {"delay": 0.01},
    "delay, jitter": {"delay": 0.01, "jitter": 0.005, "distribution": "normal"},
    "rate": {"rate": 1e10},
    "all at once": {"delay": 0.01, "jitter": 0.005, "corrupt": 0.01, "duplicate": 0.01, "reorder": 0.1},
}


def packets_per_second(d: Detour, count: Callable[[], int]) -> float:
    with world.spawn(world.python(FLOOD, RIGHT, PORT), ns=d.left):
        time.sleep(0.7)
        first, began = count(), time.monotonic()
        time.sleep(SECONDS)
        return (count() - first) / (time.monotonic() - began)


def received(d: Detour) -> int:
    with world.inside(d.right), open("/proc/thread-self/net/dev", encoding="ascii") as file:
        return sum(int(line.split()[2]) for line in file if "r:" in line)


def one_way(d: Detour, count: int) -> list[float]:
    """Seconds from send(2) to the kernel's receive time stamp, for single packets."""
    with d.receiver(PORT) as end, d.sender(PORT) as out:
        stamped(end)
        took = []
        for _ in range(count):
            sent = time.time()
            out.send(bytes(64))
            took.append(receive(end)[1] - sent)
            time.sleep(0.003)
        return took


def speed(d: Detour) -> None:
    with d.receiver(PORT):
        bare = packets_per_second(d, lambda: received(d))
        print(f"{'without a relay':<16}{bare:>9.0f} packets/s")
        for name, settings in LOADS.items():
            with d.through(limit=10**6, **settings) as relay:
                rate = packets_per_second(d, lambda relay=relay: relay.counts().frames_out)
            print(f"{name:<16}{rate:>9.0f} packets/s   {rate / bare:.2f} of what passes without")


def accuracy(d: Detour) -> None:
    bare = statistics.median(one_way(d, 100))
    print(f"one way without a relay: {bare * 1e6:.0f} us")
    for delay in (0.001, 0.01, 0.1):
        with d.through(delay=delay) as relay:
            errors = sorted(took - bare - delay for took in one_way(d, 100))
            late = relay.counts()
        middle, high = errors[50], errors[95]
        print(
            f"delay {delay * 1e3:>5g} ms   median error {middle * 1e6:>5.0f} us = {middle / delay:+.2%}"
            f"   95th percentile {high * 1e6:.0f} us   late {late.late_total_us / late.late_frames:.0f} us"
        )


if __name__ == "__main__":
    with detour() as joined:
        speed(joined)
        accuracy(joined)
