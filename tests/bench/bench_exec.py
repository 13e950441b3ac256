"""What calls cost that chaosd exec has decided and not failed: python tests/bench/bench_exec.py [NAME...]

meant       a call that is meant, and spared: microseconds more than without chaosd
other       a call that is not meant
held        by how much a delay of 20 ms is late, median
start       from the start of chaosd exec to the first instruction of the command
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALLS = int(os.environ.get("CHAOSD_BENCH_CALLS", "20000"))
ROUNDS = int(os.environ.get("CHAOSD_BENCH_ROUNDS", "11"))

_TIMED = """
import os, sys, time
call, count = getattr(os, sys.argv[1]), int(sys.argv[2])
began = time.perf_counter()
for _ in range(count):
    call()
print((time.perf_counter() - began) / count * 1e6)
"""


def _say(what: str, value: str, bound: str = "") -> None:
    print(f"{what:58} {value:>24}" + (f"   bound {bound}" if bound else ""), flush=True)


def _run(fault: str, *argv: str) -> str:
    words = [sys.executable, "-m", "chaosd", "exec", "--fault", fault, "--", *argv] if fault else [*argv]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        env = os.environ | {
            "CHAOSD_RUN_DIR": f"{folder}/run",
            "CHAOSD_STATE_DIR": f"{folder}/state",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def _timed(fault: str, call: str, count: int = CALLS) -> float:
    return float(_run(fault, sys.executable, "-c", _TIMED, call, str(count)))


def _spared(mechanism: str) -> str:
    if not mechanism:
        return ""
    return f"syscall.error mechanism={mechanism} syscalls=[getppid] errno=EIO after=100000000"


def _each(call: str) -> None:
    took: dict[str, list[float]] = {"": [], "notify": [], "ptrace": []}
    for _ in range(ROUNDS):  # in turns, so that a noisy moment strikes all alike
        for mechanism, times in took.items():
            times.append(_timed(_spared(mechanism), call))
    for mechanism, times in took.items():
        name = f"by {mechanism}" if mechanism else "without chaosd"
        _say(f"  {name}, median", f"{statistics.median(times):.2f} us")


def bench_meant() -> None:
    _say("a call that is meant and spared (getppid)", "")
    _each("getppid")


def bench_other() -> None:
    _say("a call that is not meant (getuid)", "")
    _each("getuid")


def bench_held() -> None:
    for mechanism in ("notify", "ptrace"):
        fault = f"syscall.delay mechanism={mechanism} syscalls=[getppid] delay=20ms"
        late = [_timed(fault, "getppid", 50) - 20_000 for _ in range(ROUNDS)]
        _say(f"a delay of 20 ms, late by, {mechanism}, median", f"{statistics.median(late):+.0f} us")


def bench_start() -> None:
    begins = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME))"
    took: dict[str, list[float]] = {"": [], "notify": []}
    for _ in range(ROUNDS):
        for mechanism, times in took.items():
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            times.append(float(_run(_spared(mechanism), sys.executable, "-S", "-c", begins)) - began)
    more = statistics.median(took["notify"]) - statistics.median(took[""])
    _say("the command begins later by, median", f"{more * 1000:.0f} ms")


BENCHES: dict[str, Callable[[], None]] = {
    "meant": bench_meant,
    "other": bench_other,
    "held": bench_held,
    "start": bench_start,
}


def main() -> None:
    for name in sys.argv[1:] or list(BENCHES):
        BENCHES[name]()


if __name__ == "__main__":
    main()
