"""Figures of the core, as ratios and times measured in one run: python tests/bench/bench_core.py [NAME...]

help        chaosd --help against python -c 'import click'
inject      cold `chaosd inject` until the fault is live
kill        SIGKILL of the engine until everything is put back and compared
bystander   throughput of traffic that is not the target's while a fault is live on its interface
delay       round trip with chaosd's delay against the same with raw netem (needs netem)
"""

from __future__ import annotations

import compileall
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import world
from pyroute2 import IPRoute, NetlinkError

from chaosd.kernel.netns import NetnsRef, inside

ROOT = Path(__file__).resolve().parents[2]
TRIALS = int(os.environ.get("CHAOSD_BENCH_TRIALS", "200"))


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Host:
    """A namespace with a wire to another one, and one process in it."""

    def __init__(self, stack: ExitStack) -> None:
        self.near, self.far = stack.enter_context(world.netns()), stack.enter_context(world.netns())
        self.wire, _ = stack.enter_context(world.veth(self.near, self.far))
        sleeper = world.python("import time; time.sleep(3600)")
        self.target = stack.enter_context(world.spawn(sleeper, ns=self.near)).pid
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        self.env = os.environ | {
            "CHAOSD_RUN_DIR": str(self.folder / "run"),
            "CHAOSD_STATE_DIR": str(self.folder / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "chaosd", *words],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def journal(self) -> Path | None:
        return next(iter((self.folder / "run").glob("*.jsonl")), None)

    def wait_live(self, process: subprocess.Popen[bytes]) -> tuple[Path, float]:
        """The journal of the run, and the moment its fault went live."""
        while process.poll() is None:
            path = self.journal()
            if path is not None:
                for record in _records(path):
                    if record["type"] == "phase" and record["phase"] == "fault":
                        return path, float(str(record["t"]))
            time.sleep(0.002)
        assert process.stderr is not None
        raise SystemExit(process.stderr.read().decode())


def _records(path: Path) -> list[dict[str, object]]:
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _say(what: str, value: str, bound: str) -> None:
    print(f"{what:58} {value:>24}   bound {bound}", flush=True)


def bench_help(_: Host) -> None:
    def took(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
        return time.perf_counter() - began

    pairs = [(took("-m", "chaosd", "--help"), took("-c", "import click")) for _ in range(21)]
    ratio = statistics.median(ours / click for ours, click in pairs)
    _say("chaosd --help / python -c 'import click'", f"{ratio:.2f} x", "1.5 x")


def bench_inject(host: Host) -> None:
    times = []
    for _ in range(11):
        began = _now()
        process = host.start(
            "inject", "network.delay", "delay=50ms", "--target", f"pid:{host.target}", "--duration", "200ms"
        )
        _, live = host.wait_live(process)
        times.append(live - began)
        process.wait()
    _say(
        "cold chaosd inject network.delay to fault live, median",
        f"{statistics.median(times):.3f} s",
        "0.350 s",
    )


def bench_kill(host: Host) -> None:
    times = []
    for _ in range(TRIALS):
        process = host.start(
            "inject", "network.delay", "delay=50ms", "--target", f"pid:{host.target}", "--duration", "60s"
        )
        path, _ = host.wait_live(process)
        began = _now()
        os.kill(process.pid, signal.SIGKILL)
        while path.exists():
            time.sleep(0.0005)
        done = host.folder / "state/runs" / path.name
        last = next(r for r in _records(done) if r["type"] == "restored")
        times.append(float(str(last["t"])) - began)
        process.wait()
    times.sort()
    p99 = times[round(0.99 * (len(times) - 1))]
    _say(
        f"SIGKILL of the engine to restored and compared, {len(times)} trials",
        f"p50 {times[len(times) // 2] * 1000:.0f} p99 {p99 * 1000:.0f} ms",
        "p99 150 ms",
    )


def _throughput(near: NetnsRef, far: NetnsRef, seconds: float) -> float:
    with inside(far):
        server = socket.create_server(("10.99.1.2", 0))
    port = server.getsockname()[1]
    got = [0]

    def sink() -> None:
        conn, _ = server.accept()
        with conn:
            while data := conn.recv(1 << 20):
                got[0] += len(data)

    thread = threading.Thread(target=sink)
    thread.start()
    with inside(near):
        client = socket.create_connection(("10.99.1.2", port))
    block, end = bytes(1 << 18), time.monotonic() + seconds
    while time.monotonic() < end:
        client.sendall(block)
    client.close()
    thread.join()
    server.close()
    return got[0] / seconds


def bench_bystander(host: Host) -> None:
    ratios = []
    free = _throughput(host.near, host.far, 2)
    for _ in range(11):
        process = host.start(
            "inject", "network.delay", "delay=50ms", "--target", f"pid:{host.target}", "--duration", "20s"
        )
        host.wait_live(process)
        time.sleep(1)  # 80 ms of processor time, once, for what shows the run
        live = _throughput(host.near, host.far, 2)
        process.send_signal(signal.SIGTERM)
        process.wait()
        before, free = free, _throughput(host.near, host.far, 2)
        ratios.append(2 * live / (before + free))  # what drifts on the machine is in both
    _say(
        f"untargeted TCP through the same interface, fault live / not, {len(ratios)} rounds",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        "0.97",
    )


def _ping(near: NetnsRef, far: NetnsRef, count: int = 101) -> float:
    with inside(far):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("10.99.1.2", 0))
    with inside(near):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(echo.getsockname())
    times = []
    for _ in range(count):
        began = time.perf_counter()
        client.send(b"x")
        echo.sendto(b"y", echo.recvfrom(1)[1])
        client.recv(1)
        times.append(time.perf_counter() - began)
    client.close()
    echo.close()
    return statistics.median(times)


def bench_delay(host: Host) -> None:
    delay = 0.02
    idle = _ping(host.near, host.far)
    process = host.start(
        "inject", "network.delay", "delay=20ms", "--target", f"dev:{host.wire.name}@{host.near.path}",
        "--duration", "60s",
    )  # fmt: skip
    host.wait_live(process)
    ours = _ping(host.near, host.far) - idle - delay
    process.send_signal(signal.SIGTERM)
    process.wait()
    _say("a round trip without any delay", f"{idle * 1000:.3f} ms", "")
    _say("delay of 20 ms, median error, chaosd", f"{ours * 1000:+.3f} ms", "")
    try:
        with inside(host.near), IPRoute() as ip:
            ip.tc("add", "netem", host.wire.ifindex, "1:", delay=20000)
    except NetlinkError as error:
        print(f"  no raw netem beside it on this kernel: {error}")
        return
    raw = _ping(host.near, host.far) - idle - delay
    with inside(host.near), IPRoute() as ip:
        ip.tc("del", "netem", host.wire.ifindex, "1:")
    _say("delay of 20 ms, median error, raw netem", f"{raw * 1000:+.3f} ms", "")
    _say("chaosd's error above raw netem's", f"{(ours - raw) * 1000:+.3f} ms", "0.2 ms")


BENCHES: dict[str, Callable[[Host], None]] = {
    "help": bench_help,
    "inject": bench_inject,
    "kill": bench_kill,
    "bystander": bench_bystander,
    "delay": bench_delay,
}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHES)
    compileall.compile_dir(ROOT / "chaosd", quiet=2)  # as pip does when it installs a package
    with ExitStack() as stack:
        host = Host(stack)
        for name in chosen:
            BENCHES[name](host)


if __name__ == "__main__":
    main()
