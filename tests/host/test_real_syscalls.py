"""Faults on system calls as cat, dd, curl, Python, nginx, PostgreSQL and Redis take them.

Every run is the real command. The stage demands a passed run that hit something and of which nothing is
left (programs.py); beside each target a neighbor does the same and is not hit.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import world
from programs import SERVER, Nginx, Postgres, Redis, Stage
from world import until

from chaosd.errors import UnsupportedError
from chaosd.faults.syscall_error import SyscallError

SECONDS = 10.0 if "CHAOSD_GUEST" in os.environ else 4.0  # everything is slower where it is emulated


def possible(*calls: str, mechanism: str = "") -> None:
    """Skip where these calls cannot be met."""
    try:
        SyscallError(syscalls=list(calls), errno="EIO", mechanism=mechanism).choose()
    except UnsupportedError as error:
        pytest.skip(str(error))


class Shell:
    """A shell that runs one command after the other; what it starts is its child."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def run(self, command: str) -> tuple[int, str]:
        """The exit status and all that a command said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{{ {command}; }} 2>&1; s=$?; echo; echo status=$s\n")
        self.process.stdin.flush()
        said = []
        while not (line := self.process.stdout.readline()).startswith("status="):
            said.append(line)
        return int(line.removeprefix("status=")), "".join(said)


@contextmanager
def shell(here: Stage) -> Iterator[Shell]:
    """A shell in the clients' namespace."""
    with world.spawn(["sh"], ns=here.client) as process:
        yield Shell(process)


def test_cat_reports_what_it_cannot_read(here: Stage) -> None:
    possible("read")
    file, other = here.folder / "file", here.folder / "other"
    for path in (file, other):
        path.write_text("words\n", "ascii")
    with shell(here) as target, shell(here) as neighbor:
        fields = ("syscalls=[files.read]", "errno=EIO", f"path={file}")
        with here.inject("syscall.error", *fields, target=target.pid, seconds=SECONDS) as run:
            status, said = target.run(f"cat {file}")
            assert (status, "Input/output error" in said) == (1, True), said
            assert target.run(f"cat {other}") == (0, "words\n\n")
            assert neighbor.run(f"cat {file}") == (0, "words\n\n")
        assert target.run(f"cat {file}") == (0, "words\n\n")
        assert run.view["evidence"][0]["matched"] == 1
        [hit] = run.view["hits"]
        assert (hit["comm"], hit["call"], hit["detail"]) == ("cat", "read", str(file))


def test_dd_finds_the_disk_full_after_so_many_blocks(here: Stage) -> None:
    possible("write")
    folder = here.folder / "disk"
    folder.mkdir()
    command = f"dd if=/dev/zero of={folder}/$$ bs=4096 count=23"
    with shell(here) as target, shell(here) as neighbor:
        fields = ("syscalls=[files.write]", "errno=ENOSPC", f"path={folder}", "after=7")
        with here.inject("syscall.error", *fields, target=target.pid, seconds=SECONDS) as run:
            status, said = target.run(command)
            assert status == 1
            assert "No space left on device" in said
            assert "7+0 records out" in said
            assert "23+0 records out" in neighbor.run(command)[1]
        assert "23+0 records out" in target.run(command)[1]
        assert run.view["evidence"][0]["injected"] == 1


def test_python_may_not_read_its_configuration(here: Stage) -> None:
    possible("openat")
    config = here.folder / "etc"
    config.mkdir()
    (config / "app.conf").write_text("x", "ascii")
    command = f"python3 -Ic \"open('{config}/app.conf')\""
    with shell(here) as target, shell(here) as neighbor:
        fields = ("syscalls=[files.open]", "errno=EACCES", f"path={config}/*.conf")
        with here.inject("syscall.error", *fields, target=target.pid, seconds=2 * SECONDS):
            status, said = target.run(command)
            assert (status, "PermissionError" in said) == (1, True), said
            assert neighbor.run(command)[0] == 0
        assert target.run(command)[0] == 0


def test_curl_is_refused_at_one_port(here: Stage) -> None:
    possible("connect")
    server = Nginx(here, 8080)
    other = Nginx(here, 8081)
    command = f"curl -sS -o /dev/null http://{SERVER}:{{}}/light"
    with shell(here) as target, shell(here) as neighbor:
        fields = ("syscalls=[connect]", "errno=ECONNREFUSED", f"ports=[{server.port}]")
        with here.inject("syscall.error", *fields, target=target.pid, seconds=SECONDS) as run:
            status, said = target.run(command.format(server.port))
            assert status == 7, said
            assert target.run(command.format(other.port))[0] == 0
            assert neighbor.run(command.format(server.port))[0] == 0
        assert target.run(command.format(server.port))[0] == 0
        assert run.view["hits"][0]["detail"] == f"{SERVER}:{server.port}"


def test_nginx_out_of_descriptors_serves_what_needs_none(here: Stage) -> None:
    possible("openat")
    server, neighbor = Nginx(here, 8080), Nginx(here, 8081)

    def status(of: Nginx, page: str) -> str:
        words = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}")
        return here.call(*words, f"http://{SERVER}:{of.port}/{page}").stdout

    fields = ("syscalls=[files.open]", "errno=EMFILE", f"path={server.folder}/heavy")
    with here.inject("syscall.error", *fields, target=server.pid, seconds=SECONDS) as run:
        assert [status(server, "heavy") for _ in range(5)] == ["500"] * 5
        assert status(server, "light") == "200"
        assert status(neighbor, "heavy") == "200"
    assert status(server, "heavy") == "200"
    assert run.view["evidence"][0]["injected"] == 5
    assert "(24: Too many open files)" in (server.folder / "error.log").read_text("utf-8")


def test_postgresql_cannot_read_a_block_and_loses_nothing(here: Stage, cluster: Path) -> None:
    """A table larger than the server's buffers is read from its files again and again."""
    possible("pread64")
    server = Postgres(here, cluster)
    made = server.psql("CREATE TABLE t AS SELECT i, repeat('x', 400) FROM generate_series(1, 60000) i")
    assert made.returncode == 0, made
    server.script.write_text("SELECT count(*) FROM t;\n", "ascii")
    bench = server.pgbench("-T3")
    assert here.call(*bench).returncode == 0
    file = server.psql("SELECT pg_relation_filepath('t')").stdout.strip()
    fields = ("syscalls=[files.read]", "errno=EIO", f"path={server.folder}/data/{file}", "probability=20%")
    with here.inject("syscall.error", *fields, target=server.pid, seconds=2 * SECONDS) as run:
        done = here.call(*bench)
        assert done.returncode == 2
        assert "could not read block" in done.stderr
        assert "Input/output error" in done.stderr
        assert server.psql("SELECT 1").stdout.strip() == "1"
    assert here.call(*bench).returncode == 0
    assert server.psql("SELECT count(*) FROM t").stdout.strip() == "60000"
    assert "postgres" in {hit["comm"] for hit in run.view["hits"]}


def test_redis_takes_no_writes_while_it_cannot_flush(here: Stage) -> None:
    possible("fsync", "fdatasync")
    server, neighbor = Redis(here), Redis(here, 6380)
    for each in (server, neighbor):
        assert each.cli("config", "set", "appendfsync", "everysec") == "OK"
        assert each.cli("config", "set", "appendonly", "yes") == "OK"
        until(lambda each=each: each.info("persistence", "aof_rewrite_in_progress") == "0", "no log", 60)
    assert server.cli("set", "a", "1") == "OK"

    def refuses(each: Redis) -> bool:
        return "MISCONF" in each.cli("set", "a", "2")

    fields = ("syscalls=[fsync,fdatasync]", "errno=EIO", f"path={server.folder}")
    with here.inject("syscall.error", *fields, target=server.pid, seconds=3 * SECONDS):
        until(lambda: refuses(server), "redis goes on as if it had written", 15)
        assert server.cli("get", "a") in ("1", "2")
        assert not refuses(neighbor)
    # it goes on refusing until it is told to begin a new log, which shows that fsync works again
    assert server.cli("config", "set", "appendonly", "no") == "OK"
    assert server.cli("config", "set", "appendonly", "yes") == "OK"
    until(lambda: not refuses(server), "redis takes no writes again", 30)
    until(lambda: server.info("persistence", "aof_last_write_status") == "ok", "the log is not written", 30)
    assert server.cli("get", "a") == "2"
