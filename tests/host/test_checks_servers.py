"""Checks of real servers, of this host, of processes and of logs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import programs
import pytest
import systemd_world
import world
from programs import SERVER, Nginx, Postgres, Redis, Stage, stage
from world import need, until

from chaosd import document
from chaosd.checks.base import Check, Sample, registry
from chaosd.checks.sampler import Sampler
from chaosd.kernel.netns import inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")


def check(kind: str, **fields: object) -> Check:
    """A check as a scenario makes it."""
    problems = document.Problems(kind)
    made = document.build(registry()[kind], {"within": "5s"} | fields, (), problems)
    problems.raise_any()
    assert made is not None
    assert made.check() == []
    made.demand()
    made.prepare()
    return made


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as made:
        yield made


def there(here: Stage, kind: str, **fields: object) -> Sample:
    """One probe from the clients' namespace."""
    made = check(kind, **fields)
    with inside(here.client):
        return made.probe()


# Servers


def test_nginx_is_asked_hundreds_of_times_a_second(here: Stage) -> None:
    server = Nginx(here, 8001)
    url = f"http://{SERVER}:8001/light"
    sampler = Sampler({"web": check("http", url=url, rate=300, netns="x", within="1s")}, {"web": here.client})
    sampler.start()
    try:
        time.sleep(3)
        found = sampler.stats("web", 10)
    finally:
        sampler.stop()
    assert found.error_rate == 0
    assert 100 < found.per_second < 330, "well over a hundred also where others are busy"
    assert found.p50 is not None
    assert found.p50 < 0.05
    assert server.served() >= found.count


def test_http_takes_several_statuses_and_a_pattern(here: Stage) -> None:
    Nginx(here, 8001)
    url = f"http://{SERVER}:8001"
    assert there(here, "http", url=f"{url}/light", matches=r"^o.\n$", status=[200, 204]).ok
    assert there(here, "http", url=f"{url}/none", status=[200, 404]).detail == "status 404"
    found = there(here, "http", url=f"{url}/light", matches="^x")
    assert (found.ok, found.detail) == (False, "status 200 without a match of '^x'")


def test_postgres(here: Stage, tmp_path: Path) -> None:
    Postgres(here, programs.cluster(tmp_path))
    on = {"host": SERVER, "user": "bench", "database": "postgres"}
    good = there(here, "postgres", **on)
    assert (good.ok, good.detail, good.figures) == (True, "1", {"value": 1.0})
    assert there(here, "postgres", **on, query="SELECT '12:30'::time, ':x'", expect="").detail == "12:30:00"
    many = there(here, "postgres", **on, query="SELECT count(*) FROM generate_series(1, 7)", expect="< 5")
    assert (many.ok, many.detail, many.figures) == (False, "7, not < 5", {"value": 7.0})
    assert there(here, "postgres", **on, query="SELECT 'x'", expect="> 0").detail == "x is not a number"
    assert there(here, "postgres", **on, query="SELEC 1").detail == 'syntax error at or near "SELEC"'
    assert "nothing" in there(here, "postgres", **(on | {"database": "nothing"})).detail
    slow = there(here, "postgres", **on, query="SELECT pg_sleep(5)", within="300ms")
    assert (slow.ok, slow.detail) == (False, "no answer within 300ms")
    assert slow.ended - slow.began < 1
    assert there(here, "postgres", **(on | {"host": "10.99.1.1", "port": 1})).detail == "Connection refused"


def test_redis(here: Stage, tmp_path: Path) -> None:
    server = Redis(here)
    on = {"host": SERVER}
    assert there(here, "redis", **on).detail == "PONG"
    server.cli("RPUSH", "jobs", "a", "b", "c")
    found = there(here, "redis", **on, command=["LLEN", "jobs"], expect="< 3")
    assert (found.ok, found.detail, found.figures) == (False, "3, not < 3", {"value": 3.0})
    assert "unknown command" in there(here, "redis", **on, command=["NOPE"]).detail
    assert there(here, "redis", **on, expect="> 1").detail == "PONG is not a number"
    server.cli("CONFIG", "SET", "requirepass", "secret")
    assert "Authentication required" in there(here, "redis", **on).detail
    password = tmp_path / "password"
    password.write_text("secret\n", "ascii")
    assert there(here, "redis", **on, password_file=str(password)).ok
    os.kill(server.pid, signal.SIGSTOP)
    found = there(here, "redis", **on, password_file=str(password), within="200ms")
    os.kill(server.pid, signal.SIGCONT)
    assert (found.ok, found.detail) == (False, "no answer within 200ms")


PROMETHEUS = programs.installed("prometheus", "prometheus", "prometheus")


def test_prometheus(here: Stage) -> None:
    need(PROMETHEUS)
    folder = here.place("prometheus")
    port = 9090
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 200ms}\n"
        f'scrape_configs: [{{job_name: self, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]\n',
        "ascii",
    )
    words = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    here.serve(("prometheus", *words, f"--web.listen-address=0.0.0.0:{port}"), folder / "log")
    until(lambda: here.answers(port), "prometheus does not start", 60)
    on = {"url": f"http://{SERVER}:{port}"}
    until(lambda: there(here, "prometheus", **on, query="up", expect="== 1").ok, "it does not scrape", 30)
    found = there(here, "prometheus", **on, query="up * 7", expect="< 5")
    assert (found.ok, found.detail, found.figures) == (False, "7, not < 5", {"value": 7.0})
    assert there(here, "prometheus", **on, query="vector(2) * 3").figures == {"value": 6.0}
    assert there(here, "prometheus", **on, query="scalar(up)").figures == {"value": 1.0}
    several = "go_gc_duration_seconds"
    assert "series; say series: max" in there(here, "prometheus", **on, query=several).detail
    least, most, whole = (
        there(here, "prometheus", **on, query=several, series=series).figures["value"]
        for series in ("min", "max", "sum")
    )
    assert least <= most <= whole
    assert there(here, "prometheus", **on, query="nothing_at_all").detail == "no series"
    assert there(here, "prometheus", **on, query="vector(0) / 0").detail.startswith("not a number")
    assert "parse error" in there(here, "prometheus", **on, query="up{").detail
    assert there(here, "prometheus", **on, query="up[1m]").detail.startswith("a matrix")


def test_what_is_not_prometheus(here: Stage) -> None:
    Nginx(here, 8001)
    said = there(here, "prometheus", url=f"http://{SERVER}:8001/light?", query="up").detail
    assert said == "status 200, not an answer of Prometheus"


@pytest.fixture
def resolver() -> Iterator[int]:
    """A name server that knows one name, and says nothing about another."""
    records = {
        "A": dns.rrset.from_text("api.test.", 60, "IN", "A", "10.0.0.7", "10.0.0.8"),
        "MX": dns.rrset.from_text("api.test.", 60, "IN", "MX", "10 mail.test."),
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    text, caller = end.recvfrom(4096)
                except OSError:
                    return
                question = dns.message.from_wire(text)
                name, kind = question.question[0].name, question.question[0].rdtype.name
                answer = dns.message.make_response(question)
                if str(name) == "api.test.":
                    answer.answer = [records[kind]] if kind in records else []
                elif str(name) == "silent.test.":
                    continue
                else:
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                end.sendto(b"broken" if str(name) == "broken.test." else answer.to_wire(), caller)

        threading.Thread(target=serve, daemon=True).start()
        yield end.getsockname()[1]


@pytest.mark.parametrize(
    ("fields", "ok", "detail"),
    [
        ({"query": "api.test"}, True, "NOERROR: 10.0.0.7, 10.0.0.8"),
        ({"query": "api.test", "answer": ["10.0.0.8"]}, True, "NOERROR: 10.0.0.7, 10.0.0.8"),
        (
            {"query": "api.test", "answer": ["10.0.0.9"]},
            False,
            "NOERROR: 10.0.0.7, 10.0.0.8, without 10.0.0.9",
        ),
        ({"query": "api.test", "type": "MX"}, True, "NOERROR: 10 mail.test."),
        ({"query": "api.test", "type": "TXT"}, True, "NOERROR"),
        ({"query": "none.test"}, False, "NXDOMAIN"),
        ({"query": "none.test", "status": "NXDOMAIN"}, True, "NXDOMAIN"),
        ({"query": "silent.test", "within": "300ms"}, False, "no answer within 300ms"),
        ({"query": "broken.test", "within": "300ms"}, False, "broken answer: ShortHeader"),
    ],
)
def test_dns(resolver: int, fields: Mapping[str, object], ok: bool, detail: str) -> None:
    found = check("dns", server="127.0.0.1", port=resolver, **fields).probe()
    assert (found.ok, found.detail) == (ok, detail)


# This host


def test_the_host_is_measured_as_the_kernel_shows_it() -> None:
    made = check("host")
    spin = "import time\nend = time.monotonic() + 0.7\nwhile time.monotonic() < end: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    found = made.probe()
    assert found.ok
    figures = found.figures
    assert 0.1 < figures["cpu.used"] <= 1
    kilobytes = {
        name: int(words.split()[0])
        for name, _, words in (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
    }
    assert figures["memory.available"] == pytest.approx(
        kilobytes["MemAvailable"] / kilobytes["MemTotal"], abs=0.03
    )
    assert figures["memory.used"] + figures["memory.available"] == pytest.approx(1)
    disk = os.statvfs("/")
    assert figures["disk.free.bytes"] == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.05)
    assert figures["load1"] == pytest.approx(os.getloadavg()[0], abs=1)
    if Path("/proc/pressure/memory").exists():
        assert {"psi.cpu.some", "psi.memory.full", "psi.io.full"} <= figures.keys()
    assert all(
        0 <= value <= 1
        for name, value in figures.items()
        if not name.startswith(("load",)) and "bytes" not in name
    )


def test_conditions_on_the_host_are_judged() -> None:
    assert check("host", expect=["memory.available > 0.1%", "disk.free.bytes > 1kB"]).probe().ok
    found = check("host", expect=["load1 >= 0", "memory.used > 100%"]).probe()
    assert not found.ok
    assert found.detail.startswith("memory.used is ")
    assert found.figures["load1"] >= 0, "what was measured is known nevertheless"


def test_where_the_kernel_keeps_no_account_of_pressure_a_threshold_on_it_is_refused(tmp_path: Path) -> None:
    """The real /proc, with nothing in /proc/pressure, in a mount namespace of its own."""
    (tmp_path / "empty").mkdir()
    place = tmp_path / "s.yaml"
    text = "name: x\nduration: 1s\ntarget: pid:{}\nfaults: [process.pause]\nabort_when: [{}]\n"
    with world.spawn(["sleep", "60"]) as process:

        def plan(threshold: str) -> subprocess.CompletedProcess[str]:
            place.write_text(text.format(process.pid, threshold), "ascii")
            shell = f'mount --bind {tmp_path}/empty /proc/pressure && exec "$@"'
            chaosd = [sys.executable, "-m", "chaosd", "plan", str(place)]
            return subprocess.run(
                ["unshare", "--mount", "sh", "-c", shell, "sh", *chaosd],
                capture_output=True, text=True, check=False,
                env=os.environ | {"CHAOSD_RUN_DIR": str(tmp_path / "run"), "PYTHONPATH": str(programs.ROOT)},
            )  # fmt: skip

        if not Path("/proc/pressure").is_dir():
            pytest.skip("there is no /proc/pressure to hide")
        refused = plan("psi.memory.full > 20%")
        assert refused.returncode == 5
        assert (
            "psi.memory.full cannot be measured here: /proc/pressure/memory: No such file" in refused.stderr
        )
        assert "boot with psi=1" in refused.stderr
        allowed = plan("load1 > 900")
        assert allowed.returncode == 0, allowed.stderr
        assert (
            "host.load1 > 900, error_rate > 50%, availability < 50%, host.memory.available < 3%"
            in allowed.stdout
        )


# Processes


def test_a_process_is_there_until_it_ends() -> None:
    burn = "import sys\nx = bytearray(50_000_000)\nprint('up', flush=True)\nwhile True: pass"
    with world.spawn([sys.executable, "-c", burn]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        made = check("process", of=f"pid:{process.pid}", expect=["rss < 1GiB"])
        assert made.probe().ok
        time.sleep(0.5)
        found = made.probe()
        assert (found.ok, found.detail) == (True, "1 running")
        assert found.figures["processes"] == found.figures["threads"] == 1
        assert 50e6 < found.figures["rss"] < 120e6
        assert 0.1 < found.figures["cpus"] < 1.2
        tight = check("process", of=f"pid:{process.pid}", expect=["rss < 20MB"]).probe()
        assert not tight.ok
        assert tight.detail.startswith("rss is ")
        process.kill()
        until(lambda: not made.probe().ok, "it is dead")
        assert made.probe().detail.startswith(f"pid:{process.pid} is gone")


def test_a_name_is_looked_up_each_time() -> None:
    made = check("process", of="comm:test-by-name")
    assert made.probe().detail.startswith("no process is called")
    argv = ["sh", "-c", "printf test-by-name >/proc/$$/comm; while :; do sleep 1; done"]
    for _ in range(2):
        with world.spawn(argv):
            until(lambda: made.probe().ok, "it is not found")
        until(lambda: not made.probe().ok, "it is gone")


# Logs


def lines(path: Path, *texts: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts)


def test_a_log_is_read_from_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    lines(path, "ERROR of before")
    absent = check("log", file=str(path), matches="ERROR|FATAL")
    present = check("log", file=str(path), matches="ready$", expect="present")
    counted = check("log", file=str(path), matches="E", expect="any")
    assert absent.probe().ok
    assert present.probe().detail == "no match yet"
    lines(path, "fine", "ERROR one", "now ready")
    found = absent.probe()
    assert (found.ok, found.detail) == (False, "matched 1 lines: ERROR one")
    assert absent.probe().ok, "it is about new lines"
    assert present.probe().ok
    assert present.probe().ok, "once is enough"
    assert counted.probe().figures == {"lines": 1.0, "value": 1.0}
    with path.open("a") as file:
        file.write("ERR")
        file.flush()
        assert absent.probe().ok, "half a line is none"
        file.write("OR two\n")
    assert absent.probe().detail == "matched 1 lines: ERROR two"
    assert not counted.judges
    assert absent.judges


def test_a_log_that_is_rotated_or_emptied_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    made = check("log", file=str(path), matches="ERROR", expect="any")
    assert made.probe().detail == f"{path}: No such file or directory"
    lines(path, "ERROR 1")
    assert made.probe().figures["lines"] == 1
    lines(path, "ERROR 2")
    path.rename(tmp_path / "app.log.1")
    lines(path, "ERROR 3")
    assert made.probe().figures["lines"] == 3, "also what came just before it was moved away"
    os.truncate(path, 0)
    lines(path, "x")
    assert made.probe().ok
    lines(path, "ERROR 4")
    assert made.probe().figures["lines"] == 4


JOURNAL = """
import sys, time
sys.path[:0] = [{root!r}]
from chaosd.checks.log import Log, Pattern
from chaosd.checks.process import Process
log = Log(unit="says.service", matches=Pattern("^word [0-9]+$"), expect="any")
time.sleep(2.5)
log.prepare()
before = log.probe()
time.sleep(2.5)
after = log.probe()
print(before.figures["lines"])
print(after.figures["lines"])
print(Process(of="unit:says").probe().detail)
"""


def test_the_journal_of_a_unit_is_read() -> None:
    plain = "[Unit]\nDefaultDependencies=no\n[Service]\n"
    units = {
        "systemd-journald.service": plain + "ExecStart=/lib/systemd/systemd-journald\nType=notify\n",
        "systemd-journald.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\n"
        "ListenStream=/run/systemd/journal/stdout\nListenDatagram=/run/systemd/journal/socket\n",
        "says.service": plain + "StandardOutput=journal\n"
        "ExecStart=/bin/sh -c 'i=0; while sleep 0.2; do i=$((i+1)); echo word $i; echo other; done'\n",
    }  # fmt: skip
    with systemd_world.systemd(units) as system:
        made = system.call(sys.executable, "-c", JOURNAL.format(root=str(programs.ROOT)))
        assert made.returncode == 0, made
        before, after, running = made.stdout.splitlines()
        assert float(before) < 5, "what was said before is not counted"
        assert 3 < float(after) - float(before) < 25, "a word each 0.2 s, and nothing else"
        assert running.endswith(" running")
