"""Each scenario of the library does to the booking service what it says, by the figures of the client."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from traffic import drawn, likely
from world import until

from chaosd import demo
from chaosd.demo import Demo, Settings
from chaosd.demo.world import BOOKING, inside
from chaosd.errors import UnsupportedError
from chaosd.kernel import cgroup
from chaosd.scenario import load
from tools import embedded

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")
MIB = 1 << 20
SEED = 12
NAME = f"demo-s{os.getpid()}"
BARE = {"retry": False, "breaker": False, "cache": False}
PATIENT = Settings(name=NAME, pms_timeout=30, database_timeout=30, **BARE)
HASTY = Settings(name=NAME, pms_timeout=0.5, database_timeout=0.5, pool_age=0, pool=64, **BARE)
"""Neither hides what a fault does; the one waits it out, the other gives up soon and keeps no connection."""


class Run:
    """A run of one scenario that is under way; ``view`` is there once the block has ended."""

    view: dict[str, Any]

    @property
    def evidence(self) -> tuple[int, int]:
        """How many were met, and how many of them were hit."""
        (entry,) = self.view["evidence"]
        return entry["matched"], entry["injected"]


@contextmanager
def running(
    name: str, d: Demo, folder: Path, *more: str, seconds: float = 4, verdict: str = "passed"
) -> Iterator[Run]:
    """Run a scenario; its steady state looks at a page that asks nobody, so that all calls are the test's.

    ``more`` is set for it, such as ``limit=3``.
    """
    scenario = load(name, {})
    for step in scenario.faults:
        try:
            step.fault.choose()
        except UnsupportedError as error:
            pytest.skip(str(error))
    aimed = embedded.words(name, scenario.category, scenario.parameters, d)
    aimed += ["--set", f"url={d.urls['booking']}/state", "--set", "within=15s"]
    aimed += [word for value in more for word in ("--set", value)]
    argv = [sys.executable, "-m", "chaosd", "run", name, *aimed, "--seed", str(SEED), "--json"]
    env = os.environ | {"CHAOSD_RUN_DIR": str(folder / "run"), "CHAOSD_STATE_DIR": str(folder / "state")}
    process = subprocess.Popen(
        [*argv, "--duration", f"{seconds}s"], stdout=subprocess.PIPE, text=True, env=env
    )
    run, journals = Run(), (folder / "run").glob
    begun = '"phase":"fault"'
    try:
        until(
            lambda: process.poll() is not None or any(begun in p.read_text() for p in journals("*.jsonl")),
            "no fault",
            30,
        )
        yield run
    finally:
        out = process.communicate(timeout=100)[0]
    run.view = json.loads(out)
    assert run.view.get("verdict") == verdict, run.view
    assert run.view["restored"]["differs"] == run.view["restored"]["stuck"] == []


def timed(do: Callable[[], object]) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def connects(d: Demo, many: int) -> list[float]:
    """How long as many connections at once from the client take: a round trip each."""

    def connect() -> None:
        host, _, port = d.addresses["booking"].rpartition(":")
        with inside(d.client_netns):
            end = socket.socket()
        end.settimeout(30)
        with end:
            end.connect((host, int(port)))

    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(lambda _: timed(connect), range(many)))


def test_network_latency_makes_a_round_trip_two_seconds(tmp_path: Path) -> None:
    with demo.up(PATIENT) as d:
        assert max(connects(d, 5)) < 0.3
        with running("network-latency", d, tmp_path):
            times = connects(d, 10)
    assert all(1.49 < took < 2.8 for took in times), times
    assert max(times) - min(times) > 0.1, "there is no jitter"


def test_a_latency_spike_hits_one_connection_in_five(tmp_path: Path) -> None:
    """In a spike; and none of them before the next."""
    with (
        demo.up(PATIENT) as d,
        running("latency-spike", d, tmp_path, seconds=12),
        ThreadPoolExecutor() as pool,
    ):
        spike = pool.submit(connects, d, 100)
        time.sleep(5)
        calm = connects(d, 20)
        times = spike.result()
    assert max(calm) < 1, calm
    slow = [took for took in times if took > 1]
    assert len(slow) in likely(len(times), 0.2, sigmas=4), times
    assert all(3.9 < took < 10.5 for took in slow), slow


@pytest.mark.parametrize(
    ("name", "page", "many", "trips", "delay", "jitter"),
    [
        ("slow-response", "/quote", 8, 2, 5, 0.5),
        ("pms-slow-response", "/quote", 8, 2, 8, 1),
        ("database-slow-query", "/bookings", 1, 1, 3, 0.5),  # over the one connection that stands
    ],
)
def test_an_answer_is_as_late_as_the_scenario_says(
    name: str, page: str, many: int, trips: int, delay: float, jitter: float, tmp_path: Path
) -> None:
    with demo.up(PATIENT) as d:
        assert timed(lambda: d.get(page)) < 0.5
        seconds = trips * (delay + jitter) + 2
        with running(name, d, tmp_path, seconds=seconds), ThreadPoolExecutor(many) as pool:
            times = sorted(pool.map(lambda _: timed(lambda: d.get(page, timeout=40)), range(many)))
    # Above the median is one whose packets overtook each other and had to be sent again (RFC 7323, 5).
    assert times[0] > trips * (delay - jitter) - 0.02, times
    assert times[many // 2] < trips * (delay + jitter) + 0.7, times


@pytest.mark.parametrize(
    ("name", "page", "dependency"),
    [
        ("network-timeout", "/quote", "pms"),
        ("pms-timeout", "/quote", "pms"),
        ("database-query-timeout", "/bookings", "database"),
    ],
)
def test_nothing_comes_within_the_time_that_a_caller_waits(
    name: str, page: str, dependency: str, tmp_path: Path
) -> None:
    settings = Settings(name=NAME, pms_timeout=3, database_timeout=3, **BARE)
    with demo.up(settings) as d:
        assert d.get(page)[0] == 200
        with running(name, d, tmp_path, seconds=5):
            took = timed(lambda: d.get(page, timeout=10))
            failures = d.state()["dependencies"][dependency]["failures"]
    assert 2.9 < took < 4, took
    assert failures["timeout"] >= 1
    assert set(failures) <= {"timeout", "pool"}


@pytest.mark.parametrize(
    ("name", "page", "dependency", "share", "cause"),
    [
        ("connection-failure", "/quote", "pms", 1, "unreachable"),
        ("random-failure", "/quote", "pms", 0.15, "reset"),
        ("circuit-breaker-trip", "/quote", "pms", 0.5, "refused"),
        ("cascading-failure", "/quote", "pms", 0.3, "timeout"),
        ("service-unavailable", "/quote", "pms", 1, "refused"),
        ("database-connection-failure", "/bookings", "database", 0.1, "refused"),
        ("database-pool-exhaustion", "/bookings", "database", 0.3, "timeout"),
        ("database-deadlock", "/bookings", "database", 0.05, "reset"),
        ("pms-api-failure", "/quote", "pms", 0.2, "reset"),
        ("pms-unavailable", "/quote", "pms", 1, "timeout"),
    ],
)
def test_the_share_of_calls_that_fails_is_the_one_that_was_asked_for(
    name: str, page: str, dependency: str, share: float, cause: str, tmp_path: Path
) -> None:
    def counts() -> tuple[int, int]:
        state = d.state()["dependencies"][dependency]
        assert set(state["failures"]) <= {cause}, state["failures"]
        return state["attempts"], state["failures"].get(cause, 0)

    # The service has no breaker here, and its page says so all the time.
    verdict = "failed" if name == "circuit-breaker-trip" else "passed"
    with demo.up(HASTY) as d, running(name, d, tmp_path, seconds=5, verdict=verdict) as run:
        before = counts()
        d.load(seconds=3, rate=40, paths=(page,))
        after = counts()
    calls, failed = after[0] - before[0], after[1] - before[1]
    assert calls == 120
    assert failed in likely(calls, share), f"{failed} of {calls}"
    unmet = [outcome["says"] for outcome in run.view["expected"] if not outcome["held"]]
    assert unmet == (["breaker.availability < 100%"] if verdict == "failed" else [])


@pytest.mark.parametrize(("name", "limit"), [("rate-limiting", 10), ("pms-rate-limiting", 5)])
def test_a_limit_lets_so_many_connections_through_and_no_more(name: str, limit: int, tmp_path: Path) -> None:
    """In the first minute, and with a window of two seconds in each of them."""
    with demo.up(HASTY) as d:
        for window, windows, seconds in (("60s", 1, 3.0), ("2s", 2, 3.0)):
            began = d.state()["dependencies"]["pms"]
            with running(name, d, tmp_path / window, f"window={window}", seconds=5) as run:
                d.load(seconds=seconds, rate=30)
            made, refused = run.evidence
            assert (made, made - refused) == (90, limit * windows), window
            now = d.state()["dependencies"]["pms"]
            assert now["attempts"] - began["attempts"] == made
            assert now["failures"]["refused"] - began["failures"].get("refused", 0) == refused


def test_a_breaker_that_opens_is_what_its_scenario_expects(tmp_path: Path) -> None:
    page = f"url=http://{BOOKING}:{PATIENT.booking_port}/quote"
    with (
        demo.up(Settings(name=NAME, retry=False)) as d,
        running("circuit-breaker-trip", d, tmp_path, page, seconds=6) as run,
    ):
        d.load(seconds=5, rate=30)
    assert [outcome["held"] for outcome in run.view["expected"]] == [True, True], run.view["expected"]


@pytest.mark.parametrize(
    ("name", "page", "share"),
    [("network-intermittent", "/health", 0.25), ("pms-intermittent", "/quote", 0.25)],
)
def test_the_share_of_packets_that_is_lost_is_a_quarter(
    name: str, page: str, share: float, tmp_path: Path
) -> None:
    with demo.up(PATIENT) as d, running(name, d, tmp_path) as run:
        latency = d.load(seconds=2, rate=20, paths=(page,)).data()["latency_ms"]
    matched, lost = run.evidence
    assert matched > 100
    assert lost == drawn(SEED, matched, share)
    assert latency["max"] > 190, "nothing had to be sent again (the shortest wait is 200 ms)"


def test_a_fifth_of_a_cpu_makes_375_ms_of_computing_last_a_second_and_a_half_longer(tmp_path: Path) -> None:
    def compute() -> float:
        return timed(lambda: d.get("/report?ms=375", timeout=20))

    with demo.up(PATIENT) as d:
        free = compute()
        with running("cpu-throttling", d, tmp_path) as run:
            took = compute()
    assert 1.6 < took < 1.9 + 3 * free, (free, took)
    assert run.evidence[1] > 3, "periods in which it was throttled"


def test_less_memory_makes_the_kernel_take_back_what_is_not_needed(tmp_path: Path) -> None:
    with demo.up(PATIENT) as d:
        before = d.pids["booking"]
        d.get("/report?ms=0", timeout=10)  # fills the cache that is to be given back
        with running("memory-pressure", d, tmp_path) as run:
            read = d.get("/report?ms=0", timeout=10)
        assert read == (200, {"computed_ms": 0, "read_bytes": 32 * 2**20})
        assert d.pids["booking"] == before, "it was killed"
    assert run.evidence[1] > 0


def test_each_flush_of_the_database_takes_two_and_a_half_seconds(tmp_path: Path) -> None:
    with demo.up(PATIENT) as d, running("disk-io-slowdown", d, tmp_path, seconds=13) as run:
        took = timed(lambda: d.post("/bookings", {"room": "double", "guest": "Bo"}, timeout=30))
    flushes = len(run.view["hits"])
    assert {hit["call"] for hit in run.view["hits"]} <= {"fsync", "fdatasync"}
    assert flushes > 0
    assert 2.25 * flushes < took < 2.75 * flushes + 1, (took, flushes)


def test_four_descriptors_in_ten_are_not_given(tmp_path: Path) -> None:
    with demo.up(HASTY) as d, running("resource-exhaustion", d, tmp_path) as run:
        d.load(seconds=3, rate=30, paths=("/quote",))
    wanted, refused = run.evidence
    assert wanted > 60
    assert refused in likely(wanted, 0.4), run.evidence


def test_a_leak_takes_15_mib_every_second(tmp_path: Path) -> None:
    """As the kernel counts the memory of the service's own cgroup."""
    with demo.up(PATIENT) as d:
        home = cgroup.home_of("memory")
        group = Path(cgroup.of_process(d.pids["booking"])[home])
        file = group / ("memory.current" if home == cgroup.UNIFIED else "memory.usage_in_bytes")
        before = int(file.read_text("ascii"))
        with running("memory-leak", d, tmp_path, seconds=6):
            seen = []
            for _ in range(4):
                began, size = time.monotonic(), int(file.read_text("ascii"))
                seen.append((began, size))
                time.sleep(1)
        until(lambda: int(file.read_text("ascii")) < before + 8 * MIB, "it was not given back")
    rate = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]) / MIB
    assert 10 < rate < 20, seen
    # 45 in three seconds, less two of the steps of 20 ms in which it grows
    assert seen[-1][1] > before + 44.4 * MIB, seen
