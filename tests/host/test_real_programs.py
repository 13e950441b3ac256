"""Faults on nginx, PostgreSQL and Redis as their own load generators see them.

Every run is the real command; nothing here looks into it but by its report. In each test the
stage demands a passed run that hit something and of which nothing is left (programs.py).
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import world
from programs import CLIENT, SERVER, SEVERAL_CPUS, Load, Nginx, Postgres, Redis, Stage
from world import need, until

from chaosd.faults.base import find
from chaosd.kernel.capability_network import CONNECT, GATE, IFB, TAGGING
from chaosd.kernel.netns import inside
from chaosd.kernel.process import descendants

pytestmark = pytest.mark.alone  # it measures times

DELAY = 0.05


def need_for(fault: str) -> None:
    """What the fault's last resort needs, where no better mechanism works."""
    kind = find(fault)
    assert kind is not None
    if not any(not mechanism.missing() for mechanism in kind.mechanisms):
        need(*kind.mechanisms[-1].needs)


def used(pids: list[int]) -> float:
    """Seconds of CPU that processes have used."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / os.sysconf("SC_CLK_TCK")


def runs_on(pid: int) -> int:
    """The CPU that a process's first thread ran on last (proc(5) field 39)."""
    return int(Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[36])


# nginx


def test_nginx_answers_later_by_the_delay_and_its_neighbor_does_not(here: Stage) -> None:
    need(GATE, TAGGING)
    need_for("network.delay")
    slow, other = Nginx(here, 8001), Nginx(here, 8002)

    def measure() -> tuple[Load, Load, tuple[int, float, float]]:
        return slow.wrk(), other.wrk(), slow.curl()

    seen = here.through(measure, "network.delay", f"delay={DELAY}s", target=slow.pid)
    (before, _, _), (during, beside, (status, connect, total)), (after, _, again) = seen[:3]
    assert DELAY * 0.98 < during.latency - before.latency / 2 < DELAY + 0.04
    assert 0.4 / DELAY < during.rate < 1.02 / DELAY, "one connection, one request in a round trip"
    assert status == 0
    assert DELAY * 0.98 < connect < DELAY + 0.04
    assert DELAY * 1.96 < total < DELAY * 2 + 0.08, "a new connection's first answer: two round trips"
    assert beside.latency < DELAY / 2
    assert beside.rate > during.rate * 3
    assert after.latency < DELAY / 2
    assert after.rate > during.rate * 3
    assert again[2] < DELAY
    assert before.failed == during.failed == beside.failed == after.failed == 0
    answered = round(during.rate) + 1
    assert answered * 0.8 <= seen.hits <= answered * 4 + 20, "the neighbor's packets are not counted"
    assert other.served() > answered * 3


def test_throttled_nginx_serves_as_much_less_as_it_has_less_cpu(here: Stage) -> None:
    need_for("cpu.throttle")
    server = Nginx(here, 8001)

    def measure() -> tuple[float, float]:
        pids = [server.pid, *descendants(server.pid)]
        spent, begun = used(pids), time.monotonic()
        load = server.wrk("heavy", connections=8)
        return load.rate, (used(pids) - spent) / (time.monotonic() - begun)

    measure()  # the first requests of all cost more, above all where each instruction is translated
    seen = here.through(measure, "cpu.throttle", "percent=10%", target=server.pid)
    (rate, share), (throttled, left), (again, share_again) = seen[:3]
    assert 0.05 < left < 0.14
    assert share > left * 1.6, "nothing to throttle"
    assert throttled / rate == pytest.approx(left / share, rel=0.5), "a request costs as much CPU as before"
    assert again > throttled * 1.6
    assert share_again > left * 1.6


def test_paused_nginx_answers_when_it_goes_on(here: Stage) -> None:
    need_for("process.pause")
    server = Nginx(here, 8001)
    assert server.curl()[0] == 0
    served = server.served()
    with here.inject("process.pause", target=server.pid, seconds=3) as run:
        with inside(here.client):
            patient = socket.create_connection((SERVER, 8001), 30)
        patient.sendall(b"GET /light HTTP/1.0\r\n\r\n")
        status, connect, total = server.curl(patience=1)
        assert status == 28, "curl's word for a timeout"
        assert connect < 0.5, "the kernel goes on taking connections"
        assert total >= 0.99
        assert server.served() == served
    with patient:
        assert patient.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert run.view["evidence"][0]["injected"] == 3, "the master and two workers"
    assert server.wrk().failed == 0


# PostgreSQL


def test_postgres_backends_of_before_and_after_are_delayed(here: Stage, cluster: Path) -> None:
    need(GATE, TAGGING)
    need_for("network.delay")
    server = Postgres(here, cluster)
    with world.spawn(["sh", "-c", f"exec {server.lasting('old')}"], ns=here.client):
        until(lambda: server.progress("old"), "pgbench does not start", 30)
        begun = time.monotonic()
        (rate, latency) = server.tps()
        took = time.monotonic() - begun
        with here.inject("network.delay", f"delay={DELAY}s", target=server.pid, seconds=2 * took + 2) as run:
            slow, late = server.tps()
            until(lambda: server.progress("old")[-1].until > run.began + 2, "no progress")
        (again, latency_again) = server.tps()
        ended = time.time()
        until(lambda: server.progress("old")[-1].until > ended + 1, "no progress")
    assert latency < DELAY / 2
    assert DELAY * 0.98 < late < DELAY + 0.04
    assert 0.4 / DELAY < slow < 1.02 / DELAY
    assert rate > slow * 3
    assert again > slow * 3
    assert latency_again < DELAY / 2
    old = server.progress("old")
    hit = [each for each in old if run.began + 1.1 < each.until < run.ended]
    assert hit
    assert all(DELAY * 0.98 < each.latency < DELAY + 0.04 for each in hit), old
    assert old[0].latency < DELAY / 2
    assert old[-1].latency < DELAY / 2


def test_a_client_is_refused_new_sessions_and_keeps_the_old(here: Stage, cluster: Path) -> None:
    need(CONNECT)
    server = Postgres(here, cluster)
    with world.spawn(["sh"], ns=here.client) as application:

        def new_session() -> tuple[int, str]:
            out = here.folder / "new"
            assert application.stdin is not None
            assert application.stdout is not None
            command = " ".join(server.pgbench("-t5"))
            application.stdin.write(f"{command} >{out} 2>&1 </dev/null; echo $?\n")
            return int(application.stdout.readline()), out.read_text("utf-8")

        assert application.stdin is not None
        application.stdin.write(f"{server.lasting('old')} </dev/null &\n")
        assert new_session()[0] == 0
        until(lambda: server.progress("old"), "pgbench does not start", 30)
        with here.inject("network.refuse", "ports=[5432]", target=application.pid, seconds=5) as run:
            refused = [new_session() for _ in range(2)]
            assert server.psql("SELECT 1").stdout == "1\n", "another client is served"
            until(lambda: server.progress("old")[-1].until > run.began + 1.5, "no progress")
        assert new_session()[0] == 0
    assert all(status != 0 for status, _ in refused)
    assert all("Connection refused" in said for _, said in refused)
    assert run.view["evidence"][0]["injected"] == 2
    old = [each for each in server.progress("old") if run.began + 1 < each.until < run.ended]
    assert old
    assert all(each.rate > 0 for each in old)


SORT = """SELECT count(*) FROM
    (SELECT repeat(i::text, 200) FROM generate_series(1, 60000) i ORDER BY 1 OFFSET 1) sorted"""


def test_postgres_outlives_a_memory_limit(here: Stage, cluster: Path) -> None:
    need_for("memory.limit")
    server = Postgres(here, cluster)
    with here.inject("memory.limit", "size=8MiB", target=server.pid, seconds=4):
        with inside(here.client):
            large = subprocess.Popen(
                server.asking(SORT), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        time.sleep(2)
    out, errors = large.communicate(timeout=30)  # whoever waited for memory is let go with the limit
    assert (out, errors) == ("59999\n", "")
    assert server.psql("SELECT 1").stdout == "1\n"
    assert server.process.poll() is None
    assert "terminated by signal" not in server.log.read_text("utf-8")


# Redis


def test_redis_answers_all_the_same_when_a_tenth_is_lost(here: Stage) -> None:
    need(GATE, TAGGING)
    server = Redis(here)
    seen = here.through(
        lambda: server.benchmark(200), "network.loss", "percent=10%", target=server.pid, slack=6
    )
    assert seen.before > seen.during * 3, "each loss costs a retransmission: 200 ms and more"
    assert seen.after > seen.during * 3
    entry = seen.view["evidence"][0]
    assert entry["matched"] >= 200
    assert 0.03 < entry["injected"] / entry["matched"] < 0.2


def test_redis_sends_as_fast_as_the_rate(here: Stage) -> None:
    need(GATE, TAGGING, IFB)
    need_for("network.rate")
    server, size = Redis(here), 50_000
    server.benchmark(1, clients=1, size=size, test="set")

    def measure() -> float:
        return server.benchmark(40, clients=2, size=size) * size * 8

    seen = here.through(measure, "network.rate", "rate=8mbit", target=server.pid, slack=4)
    assert 8e6 * 0.6 < seen.during < 8e6 * 1.05
    assert seen.before > seen.during * 2
    assert seen.after > seen.during * 2


def test_redis_and_a_partition(here: Stage) -> None:
    need(GATE, TAGGING)
    server = Redis(here)
    with inside(here.client):
        session = socket.create_connection((SERVER, server.port), 30)
    with session:
        session.sendall(b"PING\r\n")
        assert session.recv(100) == b"+PONG\r\n"
        with here.inject("network.partition", f"cidrs=[{CLIENT}]", target=server.pid, seconds=4):
            session.settimeout(0.5)
            session.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                session.recv(100)
            with pytest.raises(subprocess.TimeoutExpired):
                here.call("redis-cli", "-h", SERVER, "-p", server.port, "ping", timeout=1)
            assert server.cli("ping", ns=here.server) == "PONG", "who is not among the peers is served"
        session.settimeout(30)
        assert session.recv(100) == b"+PONG\r\n", "the question was asked again until it was heard"
        assert server.cli("ping") == "PONG"


def test_redis_cannot_fork_and_stays_up(here: Stage) -> None:
    need_for("pids.limit")
    server = Redis(here)
    assert server.cli("set", "key", "value") == "OK"

    def save() -> str:
        said = server.cli("bgsave")
        until(lambda: server.info("persistence", "rdb_bgsave_in_progress") == "0", "the save hangs")
        return said

    assert save() == "Background saving started"
    assert server.info("persistence", "rdb_last_bgsave_status") == "ok"
    saved = server.cli("lastsave")
    with here.inject("pids.limit", "headroom=0", target=server.pid, seconds=4):
        assert save().startswith("ERR")
        assert server.info("persistence", "rdb_last_bgsave_status") == "err"
        assert server.cli("lastsave") == saved
        assert server.cli("get", "key") == "value"
    assert "Can't save in background: fork: Resource temporarily unavailable" in (
        (server.folder / "log").read_text("utf-8")
    )
    assert save() == "Background saving started"
    assert server.info("persistence", "rdb_last_bgsave_status") == "ok"
    assert int(server.cli("lastsave")) > int(saved)


def test_redis_works_on_the_cpu_that_is_left(here: Stage) -> None:
    need(SEVERAL_CPUS)
    need_for("cpu.pin")
    server = Redis(here)

    def measure() -> tuple[float, set[str], int]:
        rate = server.benchmark(2000)
        texts = [(task / "status").read_text() for task in Path(f"/proc/{server.pid}/task").iterdir()]
        allowed = {
            line.split()[1]
            for text in texts
            for line in text.splitlines()
            if line.startswith("Cpus_allowed_list:")
        }
        return rate, allowed, runs_on(server.pid)

    last = max(os.sched_getaffinity(0))
    seen = here.through(measure, "cpu.pin", f"cpus=[{last}]", target=server.pid)
    assert seen.during[1:] == ({str(last)}, last), "every thread, and where the working one ran last"
    assert seen.before[1] == seen.after[1] != {str(last)}
    assert seen.during[0] > seen.before[0] * 0.1
    assert seen.hits == 1
