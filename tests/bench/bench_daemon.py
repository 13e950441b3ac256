"""Figures of the daemon: python tests/bench/bench_daemon.py [NAME...]

idle    memory and processor time of the daemon and the processes it keeps while nothing happens
api     from a request for network.loss, a second after the last run, to its fault live, and to the answer
cli     from the start of `chaosd inject` to its fault being live, through the daemon and alone
"""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import daemonized
import world
from daemonized import Daemon

ROOT = Path(__file__).resolve().parents[2]
TRIALS = int(os.environ.get("CHAOSD_BENCH_TRIALS", "30"))
PAUSE = float(os.environ.get("CHAOSD_BENCH_PAUSE", "1"))
IDLE = float(os.environ.get("CHAOSD_BENCH_IDLE", "60"))
LOSS = "name: loss\nduration: 100ms\nblast_radius: service-cluster\nfaults: [{network.loss: {percent: 5%}}]\n"


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _say(what: str, value: str, bound: str = "") -> None:
    print(f"{what:66} {value:>24}" + (f"   bound {bound}" if bound else ""), flush=True)


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}


def _live(records: list[dict[str, object]]) -> float:
    return next(float(str(r["t"])) for r in records if r["type"] == "phase" and r["phase"] == "fault")


def bench_idle(daemon: Daemon, target: str) -> None:
    daemon.events(daemon.post("/v1/runs", {"text": LOSS, "target": target})["run"])  # now all is rehearsed
    time.sleep(2)
    world.until(daemon.idle, "children are left")
    pids = daemon.family()
    used = sum(map(_used, pids))
    time.sleep(IDLE)
    share = (sum(map(_used, pids)) - used) / IDLE
    _say(f"idle for {IDLE:.0f} s, daemon and what it keeps, share of a processor", f"{share:.3%}", "0.1 %")
    for pid in pids:
        found = _memory(pid)
        comm = Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
        _say(f"resident, {comm}", f"Rss {found['Rss']:.1f} Pss {found['Pss']:.1f} MiB", "60 MiB")
    _say("resident, all, shared pages counted once", f"{sum(_memory(pid)['Pss'] for pid in pids):.1f} MiB")


def bench_api(daemon: Daemon, target: str) -> None:
    live, answered = [], []
    for trial in range(TRIALS + 3):
        time.sleep(PAUSE)
        began = _now()
        run = daemon.post("/v1/runs", {"text": LOSS, "target": target})["run"]
        took = _now() - began
        if trial >= 3:  # the first ones find out what this kernel can do
            answered.append(took)
            live.append(_live(daemon.events(run)) - began)
        else:
            daemon.events(run)
    for what, times in (("answered", answered), ("fault live", live)):
        times.sort()
        figures = (
            f"p50 {statistics.median(times) * 1000:.1f} p95 {times[int(len(times) * 0.95)] * 1000:.1f} ms"
        )
        _say(
            f"API call for network.loss to {what}, {len(times)} runs",
            figures,
            "10 ms" if "live" in what else "",
        )


def bench_cli(daemon: Daemon, target: str) -> None:
    words = ("inject", "network.loss", "percent=5%", "--target", target, "--duration", "100ms")
    for what, environment, bound in (
        ("through the daemon", {}, "120 ms"),
        ("alone", {"CHAOSD_ALONE": "1"}, ""),
    ):
        times = []
        for trial in range(TRIALS // 2 + 1):
            began = _now()
            subprocess.run([sys.executable, "-m", "chaosd", *words], env=daemon.env | environment,
                           stdout=subprocess.DEVNULL, check=False)  # fmt: skip
            run = daemon.get("/v1/history?limit=1")[0]["run"]
            if trial:
                times.append(_live(daemon.events(run)) - began)
        _say(f"chaosd inject network.loss {what} to fault live, median of {len(times)}",
             f"{statistics.median(times) * 1000:.0f} ms", bound)  # fmt: skip


BENCHES: dict[str, Callable[[Daemon, str], None]] = {"idle": bench_idle, "api": bench_api, "cli": bench_cli}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHES)
    tempfile.tempdir = "/dev/shm"  # a tmpfs, as /run is on every host that systemd runs
    compileall.compile_dir(ROOT / "chaosd", quiet=2)  # as pip does when it installs a package
    with ExitStack() as stack:
        near, far = stack.enter_context(world.netns()), stack.enter_context(world.netns())
        stack.enter_context(world.veth(near, far))
        sleeper = stack.enter_context(world.spawn(world.python("import time; time.sleep(3600)"), ns=near))
        daemon = stack.enter_context(daemonized.daemon())
        for name in chosen:
            BENCHES[name](daemon, f"pid:{sleeper.pid}")


if __name__ == "__main__":
    main()
