"""How long a fault stays on after the figures say that it must go."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import world

from chaosd.checks.base import now
from chaosd.kernel.process import ProcessRef, stopped

ROOT = Path(__file__).resolve().parents[2]
RATE = 10.0
TIMES = 20
SCENARIO = """
name: release
duration: 30s
target: pid:{pid}
observe:
  - http: {{url: "http://127.0.0.1:{port}/", rate: {rate}}}
faults:
  - process.pause
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="chaosd must be root"),
    pytest.mark.alone,  # it measures times
]


class Service(ThreadingHTTPServer):
    """Answers 503 while a process is paused that it depends on, and knows when it did."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, depends_on: ProcessRef) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.depends_on = depends_on
        self.bad: list[tuple[float, float]] = []  # when the request came, when it was answered


class Answer(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        came, paused = now(), stopped(self.server.depends_on)
        if paused:
            self.server.bad.append((came, now()))  # before it is seen
        self.send_response(503 if paused else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def first() -> Iterator[None]:
    """This thread and what it starts come first on the CPUs: chaosd is measured, not who else is here."""
    former = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pytest.skip("no process may come first here")
    try:
        yield
    finally:
        os.sched_setscheduler(0, *former)


@pytest.fixture
def service(first: None) -> Iterator[Service]:
    with world.spawn(["sleep", "600"]) as process:
        server = Service(ProcessRef.of(process.pid))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()


def _change(process: ProcessRef, *, to: bool) -> float:
    until = time.monotonic() + 30
    while stopped(process) is not to:
        assert time.monotonic() < until, f"paused is not {to}"
        time.sleep(0.001)
    return now()


def _released_after(service: Service, folder: Path) -> float:
    """Seconds from the answer that made availability fall below its limit to the end of the fault."""
    service.bad.clear()
    place = folder / "scenario.yaml"
    place.write_text(
        SCENARIO.format(pid=service.depends_on.pid, port=service.server_port, rate=RATE), "ascii"
    )
    folders = {"CHAOSD_RUN_DIR": str(folder / "run"), "CHAOSD_STATE_DIR": str(folder / "state")}
    run = subprocess.Popen(
        [sys.executable, "-m", "chaosd", "run", str(place), "--json"],
        env=os.environ | folders | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _change(service.depends_on, to=True)
        released = _change(service.depends_on, to=False)
    except BaseException:
        run.send_signal(signal.SIGINT)
        raise
    finally:
        view = json.loads(run.communicate(timeout=60)[0])
    assert view["verdict"] == "aborted"
    words = re.fullmatch(
        r"(error_rate > 50%|availability < 50%): it is .* \(samples: (\d+), .*\)", view["reason"]
    )
    assert words, view["reason"]
    judged = next(phase["t"] for phase in view["phases"] if phase["name"] == "revert")
    counted = [answered for _, answered in service.bad if answered <= judged][-int(words[2]) :]
    return released - counted[2]  # three of the first five decide it


@pytest.mark.timeout(300)
def test_a_fault_is_off_within_a_sample_and_a_tenth_of_a_second(service: Service, tmp_path: Path) -> None:
    took = [_released_after(service, tmp_path) for _ in range(TIMES)]
    print(f"released after {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms")
    assert max(took) < 1 / RATE + 0.1, sorted(took)
