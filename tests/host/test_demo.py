"""The demo with real processes, namespaces and sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from chaosd import demo
from chaosd.demo import Demo, DemoError, Settings, cgroups
from chaosd.demo.names import Resolver
from chaosd.demo.world import PMS, PMS_NAME, SERVICES, inside, netns_path, state_path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")

NAME = f"demo-t{os.getpid()}"
QUICK = Settings(
    name=NAME, pms_timeout=0.2, database_timeout=0.2, pool_timeout=0.2, breaker_open=0.5, backoff=0.02
)


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def gone(name: str) -> bool:
    settings = Settings(name=name)
    places = (netns_path(name), netns_path(f"{name}-client"), state_path(name), Path(settings.folder))
    groups = [place for service in SERVICES for place in cgroups.places(settings.cgroup(service))]
    return not any(place.exists() for place in (*places, *groups))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def breaker(d: Demo, name: str) -> str:
    return d.state()["dependencies"][name]["breaker"]["state"]


def put_settings(**changes: object) -> Settings:
    return Settings(**({f: getattr(QUICK, f) for f in QUICK.__dataclass_fields__} | changes))


@pytest.fixture(scope="module")
def shared() -> Iterator[Demo]:
    with demo.up(QUICK) as d:
        yield d


def test_a_booking_goes_through_pms_and_database(shared: Demo) -> None:
    status, booked = shared.post("/bookings", {"room": "suite", "guest": "Ann"})
    assert (status, booked["availability"]) == (201, "live")
    status, listed = shared.get("/bookings")
    assert status == 200
    assert {"id": booked["id"], "room": "suite", "guest": "Ann"} in listed["rows"]
    assert shared.get("/quote?room=double") == (200, {"room": "double", "price": 120.0, "source": "live"})
    assert shared.get("/health") == (200, {"status": "ok"})
    assert shared.get("/ready")[0] == 200


def test_the_pms_is_found_by_name_and_by_the_last_answer_if_there_is_none(shared: Demo) -> None:
    server = shared.addresses["names"].rpartition(":")
    with inside(shared.netns):
        names = Resolver((server[0], int(server[2])), timeout=0.2, age=0)
        assert names.address(PMS_NAME) == PMS
        with pytest.raises(OSError, match="says no"):
            names.address("nowhere.demo.internal")
        os.kill(shared.pids["names"], signal.SIGSTOP)
        try:
            assert names.address(PMS_NAME) == PMS
            with pytest.raises(OSError, match="no name server answers"):
                names.address("nowhere.demo.internal")
        finally:
            os.kill(shared.pids["names"], signal.SIGCONT)


def test_receipts_and_reports_use_the_host(shared: Demo) -> None:
    status, receipt = shared.get("/receipt")
    assert (status, receipt["source"]) == (200, "live")
    assert receipt["checksum"].isdigit()
    assert Path(shared.folder, "bookings.db").stat().st_size > 0
    began = time.monotonic()
    assert shared.get("/report?ms=200") == (200, {"computed_ms": 200, "read_bytes": 32 << 20})
    assert time.monotonic() - began > 0.2
    assert shared.get("/report?ms=many")[0] == 400


def test_bad_requests_are_the_callers_fault(shared: Demo) -> None:
    assert shared.get("/quote?room=cave")[0] == 400
    assert shared.post("/bookings", {"room": "suite"})[0] == 400
    assert shared.get("/nowhere")[0] == 404


def test_metrics_count_requests(shared: Demo) -> None:
    shared.get("/quote")
    text = shared.get("/metrics")[1]
    assert 'demo_requests_total{path="/quote",status="200"}' in text
    assert 'demo_breaker_state{dependency="pms"} 0' in text


def test_processes_are_named_and_live_in_the_namespace(shared: Demo) -> None:
    inode = netns_path(shared.netns).stat().st_ino
    for name, pid in shared.pids.items():
        assert Path(f"/proc/{pid}/comm").read_text().strip() == f"demo-{name}"
        assert os.stat(f"/proc/{pid}/ns/net").st_ino == inode


def test_load_keeps_the_rate_and_counts_all(shared: Demo) -> None:
    data = shared.load(seconds=2, rate=50, paths=("/quote", "/health")).data()
    assert data["requests"] == 100
    assert data["outcomes"] == {"200": 100}
    assert 0 < data["latency_ms"]["p50"] < 200


def test_a_hung_pms_opens_the_breaker_serves_from_cache_and_heals(shared: Demo) -> None:
    shared.get("/quote")
    pms = shared.pids["pms"]
    os.kill(pms, signal.SIGSTOP)
    try:
        answers = [shared.get("/quote") for _ in range(6)]
        assert {(status, body["source"]) for status, body in answers} == {(200, "cache")}
        until(lambda: breaker(shared, "pms") != "closed")
        assert shared.get("/health")[1]["status"] == "degraded"
        began = time.monotonic()
        shared.get("/quote")
        shared.get("/quote")
        assert time.monotonic() - began < 0.5, "an open breaker answers at once, one trial takes 0.2 s"
    finally:
        os.kill(pms, signal.SIGCONT)
    until(lambda: shared.get("/quote")[1]["source"] == "live" and breaker(shared, "pms") == "closed")
    seen = [move["after"] for move in shared.state()["dependencies"]["pms"]["breaker"]["transitions"]]
    assert (seen[0], seen[-2:]) == ("open", ["half-open", "closed"])
    retries = shared.state()["dependencies"]["pms"]["recent_retries"]
    first, second = (next(r["wait_s"] for r in retries if r["retry"] == number) for number in (1, 2))
    assert 0.02 <= first <= 0.022
    assert 0.04 <= second <= 0.044


def test_a_killed_database_is_started_again_and_bookings_recover(shared: Demo) -> None:
    before = shared.pids["database"]
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    until(lambda: shared.post("/bookings", {"room": "single", "guest": "Bo"})[0] == 503)
    until(lambda: shared.post("/bookings", {"room": "single", "guest": "Bo"})[0] == 201)
    assert 0.4 < time.monotonic() - began < 5
    assert shared.pids["database"] != before


def test_without_retry_breaker_and_cache_an_error_is_passed_on() -> None:
    settings = put_settings(name=f"{NAME}-b", retry=False, breaker=False, cache=False, pms_availability=0.5)
    with demo.up(settings) as d:
        statuses = [d.get("/quote")[0] for _ in range(60)]
        pms = d.state()["dependencies"]["pms"]
    assert 10 < statuses.count(503) < 50
    assert pms["attempts"] == 60
    assert pms["failures"] == {"status_500": statuses.count(503)}
    assert "breaker" not in pms


def test_a_small_pool_runs_out_while_the_database_hangs() -> None:
    settings = put_settings(
        name=f"{NAME}-c", pool=1, retry=False, breaker=False, cache=False, pool_timeout=0.1
    )
    with demo.up(settings) as d:
        d.get("/bookings")
        os.kill(d.pids["database"], signal.SIGSTOP)
        d.load(seconds=1, rate=20, paths=("/bookings",))
        assert d.state()["dependencies"]["database"]["failures"].keys() >= {"pool", "timeout"}


def test_it_starts_in_two_seconds_and_leaves_nothing() -> None:
    name = f"{NAME}-d"
    began = time.monotonic()
    with demo.up(put_settings(name=name)) as d:
        took, pids = time.monotonic() - began, d.pids
        with pytest.raises(DemoError, match="running already"), demo.up(put_settings(name=name)):
            pass
    assert took < 2
    assert gone(name)
    assert not any(alive(pid) for pid in pids.values())


def start(name: str) -> tuple[subprocess.Popen[str], dict[str, dict[str, int]]]:
    argv = [sys.executable, "-m", "chaosd.demo", "up", "--json", "--name", name]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_services_die_with_a_killed_supervisor_and_the_next_start_cleans_up() -> None:
    name = f"{NAME}-e"
    process, state = start(name)
    process.kill()
    process.communicate()
    until(lambda: not any(alive(pid) for pid in state["pids"].values()))
    assert netns_path(name).exists()
    with demo.up(put_settings(name=name)) as d:
        assert d.get("/health")[0] == 200
    assert gone(name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_removes_everything(number: signal.Signals) -> None:
    name = f"{NAME}-f"
    process, state = start(name)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert gone(name)
    assert not any(alive(pid) for pid in state["pids"].values())


def test_it_removes_itself_when_its_user_is_killed() -> None:
    name = f"{NAME}-g"
    code = "import sys, time; from chaosd import demo\n"
    code += "with demo.up(demo.Settings(name=sys.argv[1])): print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()
    until(lambda: gone(name))


def test_a_namespace_of_somebody_else_is_left_alone() -> None:
    name = f"{NAME}-h"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with pytest.raises(DemoError, match="is not a demo's"), demo.up(put_settings(name=name)):
            pass
        assert netns_path(name).exists()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    assert gone(name)


@pytest.mark.parametrize(("drop", "said"), [("root", "must be started as root"), ("ip", "no ip command")])
def test_without_root_or_ip_it_says_so_in_one_line(drop: str, said: str) -> None:
    lines = ["import os, sys", "from chaosd.demo.__main__ import main"]
    lines += ["os.setuid(65534)" if drop == "root" else "os.environ['PATH'] = '/nowhere'"]
    lines += ["sys.argv = ['demo', 'up', '--name', sys.argv[1]]", "sys.exit(main())"]
    argv = [sys.executable, "-c", "\n".join(lines), f"{NAME}-i"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert gone(f"{NAME}-i")


def test_load_from_the_command_line_prints_seconds_and_a_summary(shared: Demo) -> None:
    argv = [sys.executable, "-m", "chaosd.demo", "load", "--seconds", "2", "--rate", "20"]
    argv += ["--netns", shared.client_netns, "--url", f"{shared.urls['booking']}/quote"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    *seconds, summary = done.stdout.splitlines()
    assert [line.split()[0] for line in seconds] == ["1", "2"]
    assert json.loads(summary)["requests"] == 40


def test_a_wrong_name_is_one_line() -> None:
    argv = [sys.executable, "-m", "chaosd.demo", "load", "--netns", "no-such-netns"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: no network namespace 'no-such-netns'\n")


def test_each_service_has_a_cgroup_to_itself_with_all_its_memory(shared: Demo) -> None:
    for service, pid in shared.pids.items():
        groups = [*cgroups.places(put_settings().cgroup(service))]
        assert groups
        for group in groups:
            assert (group / "cgroup.procs").read_text("ascii").split() == [str(pid)]
        used = next(
            int((group / file).read_text("ascii"))
            for group in groups
            for file in ("memory.current", "memory.usage_in_bytes")
            if (group / file).exists()
        )
        assert used > psutil.Process(pid).memory_info().rss - psutil.Process(pid).memory_info().shared
