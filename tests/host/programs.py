"""Real servers and their load generators, in namespaces of their own, with the chaosd command beside them."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import world
from pyroute2 import IPRoute, NetlinkError
from world import need, until

from chaosd.kernel import cgroup
from chaosd.kernel.capability import Capability, Verdict
from chaosd.kernel.netns import NetnsRef, inside

ROOT = Path(__file__).resolve().parents[2]
SERVER, CLIENT = "10.99.1.1", "10.99.1.2"
NOBODY = 65534
# may read everything, so that the data lies where the test's files lie
UNPRIVILEGED = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


def _where(binary: str) -> str | None:
    kept = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{binary}"), key=lambda path: int(path.split("/")[4]))
    return kept[-1] if kept else shutil.which(binary)


class Found(Capability):
    """What a look at this host tells; looked for anew each time, because a package can be removed."""

    def __call__(self) -> Verdict:
        return self._attempt()


def installed(name: str, package: str, *binaries: str) -> Found:
    def attempt() -> Verdict:
        missing = [binary for binary in (*binaries, "setpriv") if _where(binary) is None]
        return Verdict(not missing, f"no {', '.join(missing)}" if missing else "", f"apt install {package}")

    return Found(name, attempt)


NGINX = installed("nginx", "nginx-light wrk curl", "nginx", "wrk", "curl")
POSTGRESQL = installed("postgresql", "postgresql", "initdb", "postgres", "pgbench", "psql")
REDIS = installed("redis", "redis-server redis-tools", "redis-server", "redis-benchmark", "redis-cli")
SEVERAL_CPUS = Found("several-cpus", lambda: Verdict(len(os.sched_getaffinity(0)) > 1, "there is but one"))


class Phases(NamedTuple):
    """The same measurement before, during and after a fault, and what chaosd reports of the run."""

    before: Any
    during: Any
    after: Any
    view: dict[str, Any]

    @property
    def hits(self) -> int:
        """How often chaosd says it struck."""
        return int(self.view["evidence"][0]["injected"])


class Run:
    """A run of chaosd; ``view`` is its JSON, once it has ended."""

    def __init__(self) -> None:
        self.view: dict[str, Any] = {}
        self.began = 0.0
        self.ended = 0.0


class Stage:
    """A namespace for servers, one for clients, a wire between them, and the chaosd command."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.stack = stack
        self.server, self.client = (stack.enter_context(world.netns()) for _ in range(2))
        stack.enter_context(world.veth(self.server, self.client))
        self.runs = folder / "run"
        self.env = os.environ | {
            "CHAOSD_RUN_DIR": str(self.runs),
            "CHAOSD_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def place(self, name: str) -> Path:
        """A folder that the unprivileged user owns."""
        path = self.folder / name
        path.mkdir(mode=0o700)
        os.chown(path, NOBODY, NOBODY)
        return path

    def serve(self, argv: Sequence[object], log: Path) -> subprocess.Popen[str]:
        """Start a server in its namespace, as nobody; what it says on standard error goes to a file."""
        shell = ("sh", "-c", 'exec "$@" 2>>"$0"', str(log))
        words = [*shell, *UNPRIVILEGED, *map(str, argv)]
        return self.stack.enter_context(world.spawn(words, ns=self.server))

    def call(
        self, *argv: object, ns: NetnsRef | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a client to its end, in the clients' namespace unless told otherwise."""
        with inside(ns or self.client):
            return subprocess.run(
                [*map(str, argv)], capture_output=True, text=True, check=False, timeout=timeout
            )

    def answers(self, port: int) -> bool:
        """Whether a server listens."""
        with inside(self.server):
            sock = socket.socket()
        with sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    @contextmanager
    def inject(self, fault: str, *fields: str, target: int, seconds: float) -> Iterator[Run]:
        """The fault is live inside the block and lasts until its own end; then nothing of it may be left."""
        run, around = Run(), self._around()
        words = ["inject", fault, *fields, "--target", f"pid:{target}", "--duration", f"{seconds:.1f}s"]
        argv = [sys.executable, "-m", "chaosd", *words, "--seed", "7", "--json"]
        process = subprocess.Popen(
            argv, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            until(lambda: process.poll() is not None or self._phase() == "fault", "no fault", 60)
            assert process.poll() is None, process.communicate()
            run.began = time.time()
            yield run
            assert self._phase() == "fault", "the fault was over before everything was measured"
            run.ended = time.time()
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        finally:
            out, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, ""), (process.returncode, out, errors, self._end())
        run.view = json.loads(out)
        self._must_be_over(run.view)
        assert self._around() == around

    def through(
        self, measure: Callable[[], Any], fault: str, *fields: str, target: int, slack: float = 1
    ) -> Phases:
        """Measure before, during and after; the fault lasts twice as long as it took, and ``slack``."""
        begun = time.monotonic()
        before = measure()
        took = time.monotonic() - begun
        with self.inject(fault, *fields, target=target, seconds=2 * took + slack) as run:
            during = measure()
        return Phases(before, during, measure(), run.view)

    def _phase(self) -> str:
        found = ""
        for path in self.runs.glob("*.jsonl"):
            with suppress(FileNotFoundError):
                found = path.read_text("utf-8")
        return (re.findall(r'"phase":"(\w+)"', found) or [""])[-1]

    def _end(self) -> str:
        time.sleep(2)  # a watchdog may have something to say, too
        journals = [*self.runs.glob("*.jsonl"), *(self.runs.parent / "state").rglob("*.jsonl")]
        return "".join(path.read_text("utf-8")[-2000:] for path in journals)

    def _must_be_over(self, view: dict[str, Any]) -> None:
        assert view["verdict"] == "passed", view["reason"]
        assert view["evidence"], view
        assert all(entry["injected"] > 0 for entry in view["evidence"]), view["evidence"]
        assert view["restored"]["differs"] == view["restored"]["stuck"] == []
        assert view["restored"]["compared"] > 0
        assert view["edits"]
        assert not [edit for edit in view["edits"].values() if edit["open"]]
        assert not [*self.runs.glob("*.jsonl")]
        assert not _started_with(f"CHAOSD_RUN_DIR={self.runs}")
        assert not [
            folder
            for top in cgroup.hierarchies().values()
            for folder, _, _ in os.walk(top)
            if view["run"] in os.path.basename(folder)
        ]

    def _around(self) -> list[object]:
        seen: list[object] = []
        for ns in (self.server, self.client):
            with inside(ns), IPRoute() as ip:
                seen += [link.get_attr("IFLA_IFNAME") for link in ip.get_links()]
                seen += [(qdisc["index"], qdisc.get_attr("TCA_KIND")) for qdisc in ip.get_qdiscs()]
                with suppress(NetlinkError):  # a kernel without CONFIG_IP_MULTIPLE_TABLES has none
                    seen += [(rule["family"], rule.get_attr("FRA_PRIORITY")) for rule in ip.get_rules()]
        return seen


def _started_with(setting: str) -> list[str]:
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        with suppress(OSError):
            if setting.encode() in Path(path).read_bytes().split(b"\0"):
                found.append(path)
    return found


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stage of which no process, no namespace and no shared memory is left."""
    with ExitStack() as stack:
        made = Stage(stack, folder)
        namespaces = {made.server.inode, made.client.inode}
        yield made
    until(lambda: not _inside(namespaces), "a process outlives its test")
    shared = Path("/proc/sysvipc/shm").read_text("ascii").splitlines()[1:]
    assert not [line for line in shared if int(line.split()[7]) == NOBODY and line.split()[6] == "0"]


def _inside(namespaces: set[int]) -> list[str]:
    found = []
    for path in glob.glob("/proc/[0-9]*/ns/net"):
        with suppress(OSError):
            if os.stat(path).st_ino in namespaces:
                found.append(path)
    return found


# nginx, wrk and curl


class Load(NamedTuple):
    """What wrk measured: requests a second, the median latency in seconds, failed requests."""

    rate: float
    latency: float
    failed: int


_NGINX = """
daemon off; pid {folder}/pid; worker_processes 2;
events {{ worker_connections 128; }}
http {{
    access_log {folder}/access.log; default_type text/plain; keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    gzip_comp_level 9; gzip_types text/plain;
    server {{
        listen {port} backlog=128; root {folder};
        location = /light {{ access_log {folder}/access.log; return 200 "ok\\n"; }}
        location = /heavy {{ gzip on; }}
    }}
}}
"""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Nginx:
    """An nginx with two workers; ``/light`` costs next to nothing, ``/heavy`` is compressed each time."""

    def __init__(self, stage: Stage, port: int) -> None:
        need(NGINX)
        self.stage, self.port = stage, port
        self.folder = stage.place(f"nginx-{port}")
        (self.folder / "heavy").write_text(" ".join(map(str, range(1500))), "ascii")
        (self.folder / "nginx.conf").write_text(_NGINX.format(folder=self.folder, port=port), "ascii")
        log = self.folder / "error.log"
        argv = (_where("nginx"), "-e", log, "-p", self.folder, "-c", self.folder / "nginx.conf")
        self.pid = stage.serve(argv, self.folder / "stderr").pid
        until(lambda: stage.answers(port), "nginx does not start", 60)

    def wrk(self, path: str = "light", connections: int = 1) -> Load:
        """One second of load."""
        url = f"http://{SERVER}:{self.port}/{path}"
        words = ("-t1", f"-c{connections}", "-d1s", "--timeout", "10s", "--latency")
        done = self.stage.call("wrk", *words, "-H", "Accept-Encoding: gzip", url)
        assert done.returncode == 0, done
        half = re.search(r"50%\s+([\d.]+)(us|ms|s|m)", done.stdout)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        assert half, done.stdout
        assert rate, done.stdout
        bad = re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", done.stdout)
        return Load(float(rate[1]), float(half[1]) * _UNITS[half[2]], sum(map(int, bad)))

    def curl(self, patience: float = 30) -> tuple[int, float, float]:
        """The exit status, the seconds to connect and the seconds in all of one request."""
        form = "%{time_connect} %{time_total}"
        words = ("-s", "-o", "/dev/null", "-w", form, "--max-time", patience)
        done = self.stage.call("curl", *words, f"http://{SERVER}:{self.port}/light")
        connect, total = map(float, done.stdout.split())
        return done.returncode, connect, total

    def served(self) -> int:
        """How many requests it has answered, by its own log."""
        return len((self.folder / "access.log").read_text("ascii").splitlines())


# PostgreSQL, pgbench and psql


class Progress(NamedTuple):
    """One second of a long pgbench: its end, transactions a second, their latency in seconds."""

    until: float
    rate: float
    latency: float


def cluster(folder: Path) -> Path:
    """A new, empty database cluster that anybody from the clients' namespace may use."""
    need(POSTGRESQL)
    data = folder / "data"
    data.mkdir(mode=0o700)
    os.chown(data, NOBODY, NOBODY)
    words = ("-U", "bench", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
    argv = [*UNPRIVILEGED, str(_where("initdb")), "-D", str(data), *words]
    made = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100, cwd=data)
    assert made.returncode == 0, made
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all 10.99.0.0/16 trust\n")
    return data


class Postgres:
    """A PostgreSQL server on a copy of a cluster."""

    def __init__(self, stage: Stage, cluster: Path, port: int = 5432) -> None:
        need(POSTGRESQL)
        self.stage, self.port = stage, port
        self.folder = stage.place("postgres")
        data = self.folder / "data"
        subprocess.run(["cp", "-a", cluster, data], check=True)
        self.script = self.folder / "select.sql"
        self.script.write_text("SELECT 1;\n", "ascii")
        self.log = self.folder / "log"
        settings = (
            "listen_addresses=*", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB",
            "max_connections=20", "dynamic_shared_memory_type=mmap", "work_mem=256MB", "jit=off",
            "max_parallel_workers=0",
        )  # fmt: skip
        options = [word for setting in settings for word in ("-c", setting)]
        self.process = stage.serve((_where("postgres"), "-D", data, "-p", port, *options), self.log)
        self.pid = self.process.pid
        stage.stack.callback(self._stop)
        until(lambda: self.psql("SELECT 1").stdout.strip() == "1", f"no server: {self.log}", 60)

    def _stop(self) -> None:
        # SIGKILL would leave its shared memory; each backend is in a session of its own
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)

    @property
    def _address(self) -> tuple[object, ...]:
        return ("-h", SERVER, "-p", self.port, "-U", "bench")

    def psql(self, query: str) -> subprocess.CompletedProcess[str]:
        """One query in a session of its own."""
        return self.stage.call(*self.asking(query))

    def asking(self, query: str) -> list[str]:
        """The command line of a client that asks one query."""
        return [*map(str, (_where("psql"), "-XAtq", *self._address, "-c", query, "postgres"))]

    def pgbench(self, *options: object) -> list[str]:
        """The command line of one client that sends one small query after the other."""
        words = (_where("pgbench"), "-n", "-f", self.script, "-c1", *options, *self._address, "postgres")
        return [*map(str, words)]

    def tps(self) -> tuple[float, float]:
        """Transactions a second, and seconds of latency, of a new session in one second."""
        done = self.stage.call(*self.pgbench("-T1"))
        assert done.returncode == 0, done
        rate, latency = (
            re.search(rf"^{word} = ([\d.]+)", done.stdout, re.MULTILINE)
            for word in ("tps", "latency average")
        )
        assert rate, done
        assert latency, done
        return float(rate[1]), float(latency[1]) / 1000

    def lasting(self, log: str) -> str:
        """A shell command: one session for as long as the test takes, its figures in a file each second."""
        command = " ".join(self.pgbench("-T600", "-P1", "--progress-timestamp"))
        return f"{command} >/dev/null 2>{self.folder / log}"

    def progress(self, log: str) -> list[Progress]:
        """What a lasting session has written so far."""
        try:
            text = (self.folder / log).read_text("ascii")
        except FileNotFoundError:
            return []
        found = re.findall(r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+|NaN) ms", text)
        return [Progress(float(end), float(rate), float(latency) / 1000) for end, rate, latency in found]


# Redis, redis-benchmark and redis-cli


class Redis:
    """A Redis server without persistence but what is asked for."""

    def __init__(self, stage: Stage, port: int = 6379) -> None:
        need(REDIS)
        self.stage, self.port = stage, port
        self.folder = stage.place(f"redis-{port}")
        words = ("--port", port, "--bind", "*", "--protected-mode", "no", "--dir", self.folder)
        words += ("--save", "", "--logfile", self.folder / "log")
        self.pid = stage.serve((_where("redis-server"), *words), self.folder / "stderr").pid
        until(lambda: stage.answers(port), "redis does not start", 60)

    def cli(self, *words: str, ns: NetnsRef | None = None) -> str:
        """The answer to one command."""
        address = "127.0.0.1" if ns == self.stage.server else SERVER
        return self.stage.call("redis-cli", "-h", address, "-p", self.port, *words, ns=ns).stdout.strip()

    def info(self, section: str, key: str) -> str:
        """One value of INFO."""
        lines = (line.strip().partition(":") for line in self.cli("info", section).splitlines())
        return next(value for name, _, value in lines if name == key)

    def benchmark(self, count: int, *, clients: int = 4, size: int = 3, test: str = "get") -> float:
        """Requests a second of so many requests in all."""
        words = ("-n", count, "-c", clients, "-d", size, "-t", test, "--csv")
        done = self.stage.call("redis-benchmark", "-h", SERVER, "-p", self.port, *words)
        found = re.search(rf'^"{test.upper()}","([\d.]+|inf)"', done.stdout, re.MULTILINE)
        assert found, done
        return float(found[1])
