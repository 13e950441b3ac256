"""Checks against real servers, commands and namespaces."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import world

from chaosd import demo
from chaosd.checks.base import Check, Sample
from chaosd.checks.command import Command
from chaosd.checks.http import Http, Url
from chaosd.checks.sampler import Sampler
from chaosd.checks.tcp import Tcp
from chaosd.checks.threshold import Threshold, Watch, defaults
from chaosd.kernel.netns import NetnsRef, inside
from chaosd.units import Duration

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        getattr(self, "on_" + self.path.strip("/").partition("?")[0])()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, self.headers["X-Token"].encode() + b":" + body)

    def on_ok(self) -> None:
        self.answer(200, self.path.encode() + b" status: up")

    def on_error(self) -> None:
        self.answer(503, b"status: up")

    def on_slow(self) -> None:
        time.sleep(0.1)
        self.answer(200, b"")

    def on_hang(self) -> None:
        time.sleep(1)

    def on_drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b".")
            time.sleep(0.05)

    def on_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"." * 2**20)

    def on_hangup(self) -> None:
        pass

    def on_nonsense(self) -> None:
        self.wfile.write(b"hello\r\n\r\n")

    def on_short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"short")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # callers here hang up on purpose


@contextmanager
def serving(ns: NetnsRef | None = None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    if ns is not None:
        with inside(ns):
            server = Quiet(("127.0.0.1", 0), Page)
    else:
        server = Quiet(("127.0.0.1", 0), Page)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as number:
        yield number


def http(port: int, path: str, **options: object) -> Sample:
    options.setdefault("within", Duration(0.3))
    return Http(url=Url(f"http://127.0.0.1:{port}/{path}"), **options).probe()  # type: ignore[arg-type]


def unused() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_good_answer(port: int) -> None:
    found = http(port, "ok?a=1", contains="a=1 status: up", within=Duration(2))
    assert (found.ok, found.detail) == (True, "status 200")
    assert found.latency is not None
    assert 0 < found.latency < 1


def test_method_headers_and_body_are_sent(port: int) -> None:
    found = http(
        port,
        "x",
        method="POST",
        headers={"X-Token": "t"},
        body="né",
        status=201,
        contains="t:né",
        within=Duration(2),
    )
    assert (found.ok, found.detail) == (True, "status 201")


@pytest.mark.parametrize(
    ("path", "detail", "timed"),
    [
        ("error", "status 503", True),
        ("hang", "no answer within 300ms", True),
        ("drip", "no answer within 300ms", True),
        ("hangup", "Remote end closed connection without response", False),
        ("nonsense", "broken answer: BadStatusLine", False),
        ("short", "the answer broke off, 95 bytes short", True),
    ],
)
def test_a_bad_answer_is_told_in_words(port: int, path: str, detail: str, timed: bool) -> None:
    found = http(port, path)
    assert (found.ok, found.detail, found.latency is not None) == (False, detail, timed)
    assert found.ended - found.began < 0.6


def test_a_body_without_the_words_fails(port: int) -> None:
    assert http(port, "ok", contains="down", within=Duration(2)).detail == "status 200 without 'down'"


def test_latency_is_measured(port: int) -> None:
    found = http(port, "slow", within=Duration(2))
    assert found.latency is not None
    assert 0.1 <= found.latency < 0.3


def test_an_endless_answer_is_read_no_further_than_a_mebibyte(port: int) -> None:
    assert http(port, "endless", within=Duration(5)).ok


def test_a_closed_port_is_refused() -> None:
    nobody = unused()
    assert http(nobody, "ok").detail == "Connection refused"
    found = Tcp(host="127.0.0.1", port=nobody).probe()
    assert (found.ok, found.detail, found.latency) == (False, "Connection refused", None)


def test_a_certificate_is_verified_unless_told_otherwise(tmp_path: Path) -> None:
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"]
    subprocess.run([*argv, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context=context) as number:
        url = Url(f"https://127.0.0.1:{number}/ok")
        strict = Http(url=url, within=Duration(2)).probe()
        loose = Http(url=url, within=Duration(2), verify=False).probe()
    assert "CERTIFICATE_VERIFY_FAILED" in strict.detail
    assert loose.ok


def test_tcp_connects_and_times_out(port: int) -> None:
    assert Tcp(host="127.0.0.1", port=port).probe().ok
    assert "not known" in Tcp(host="no-such-host.invalid", port=1, within=Duration(20)).probe().detail
    with world.netns() as left, world.netns() as right, world.veth(left, right), inside(left):
        found = Tcp(host="10.99.1.77", port=1, within=Duration(0.2)).probe()
    assert (found.ok, found.detail) == (False, "no answer within 200ms")
    assert found.latency is not None
    assert 0.2 <= found.latency < 0.4


def command(*argv: str, **options: object) -> Sample:
    return Command(argv=list(argv), **options).probe()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argv", "options", "ok", "detail"),
    [
        (["true"], {}, True, "exit status 0"),
        (["echo", "one\ntwo; $HOME"], {}, True, "one"),
        (["false"], {}, False, "exit status 1"),
        (["false"], {"status": 1}, True, "exit status 1"),
        (["sh", "-c", "echo broken >&2; exit 3"], {}, False, "exit status 3: broken"),
        (["sh", "-c", "kill -9 $$"], {}, False, "killed by SIGKILL"),
        (["no-such-program"], {}, False, "no-such-program: No such file or directory"),
        (["id", "-un"], {"user": "nobody"}, True, "nobody"),
        (["true"], {"user": "no-such-user"}, False, "there is no user 'no-such-user'"),
        (["cat"], {}, True, "exit status 0"),
        (["pwd"], {}, True, "/"),
        (["sh", "-c", "sleep 30 & echo left behind"], {}, True, "left behind"),
    ],
)
def test_a_command_is_judged_by_its_exit_status(
    argv: list[str], options: dict[str, object], ok: bool, detail: str
) -> None:
    began = time.monotonic()
    found = command(*argv, **options)
    assert (found.ok, found.detail) == (ok, detail)
    assert time.monotonic() - began < 4


def test_the_groups_of_the_user_are_its_own() -> None:
    assert command("id", "-G", user="nobody").detail == "65534"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    found = command("sh", "-c", f"sleep 60 & echo $! $$ > {pids}; wait", within=Duration(0.3))
    assert found.detail == "no answer within 300ms"
    for pid in pids.read_text().split():
        world.until(lambda pid=pid: not alive(int(pid)), "left behind")


def test_a_command_that_floods_is_cut_short() -> None:
    found = command("yes", within=Duration(0.3))
    assert (found.ok, found.detail) == (False, "no answer within 300ms")


def test_stopping_the_sampler_ends_a_command_under_way(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    argv = ["sh", "-c", f"echo $$ > {pid}; exec sleep 60"]
    sampler = Sampler({"c": Command(argv=argv, within=Duration(60))})
    sampler.start()
    world.until(lambda: pid.exists() and pid.read_text().strip(), "the command did not start")
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 0.1
    world.until(lambda: not alive(int(pid.read_text())), "left behind")


def take(checks: dict[str, Check], refs: dict[str, NetnsRef], enough: Callable[[Sampler], object]) -> Sampler:
    sampler = Sampler(checks, refs)
    sampler.start()
    try:
        world.until(lambda: enough(sampler), "too few samples")
    finally:
        sampler.stop()
    return sampler


def test_checks_measure_inside_a_namespace() -> None:
    with world.netns() as ns, serving(ns) as number:
        url = Url(f"http://127.0.0.1:{number}/ok")
        checks: dict[str, Check] = {
            "there": Http(url=url, netns="target"),
            "here": Http(url=url),
            "tcp": Tcp(host="127.0.0.1", port=number, netns="target"),
            "command": Command(argv=["readlink", "/proc/self/ns/net"], netns="target"),
        }
        refs = {name: ns for name, check in checks.items() if check.netns}
        sampler = take(checks, refs, lambda s: all(s.stats(name, 60).count for name in checks))
        assert sampler.failing(["there", "tcp", "command"], 60) == ""
        assert "here: Connection refused" in sampler.failing(["here"], 60)
        assert sampler.stats("command", 60).detail == f"net:[{ns.inode}]"


def test_a_namespace_that_goes_away_is_a_failure() -> None:
    with world.netns() as ns:
        pass
    sampler = take(
        {"a": Tcp(host="127.0.0.1", port=1, netns="gone")}, {"a": ns}, lambda s: s.stats("a", 9).count
    )
    assert "its network namespace is gone" in sampler.failing(["a"], 9)


def test_a_hung_service_breaches_the_defaults_and_a_healthy_one_does_not() -> None:
    settings = demo.Settings(name=f"demo-c{os.getpid()}")
    with demo.up(settings) as d:
        ref = NetnsRef.at(f"/run/netns/{d.client_netns}")
        check = Http(url=Url(d.urls["booking"] + "/quote"), netns="client", within=Duration(0.5))
        sampler = Sampler({"booking": check}, {"booking": ref})
        watches = [
            Watch(threshold) for threshold in (*defaults()[:2], Threshold.parse("booking.p95 > 400ms"))
        ]
        sampler.start()
        try:
            time.sleep(2)
            assert [watch.breached(sampler) for watch in watches] == ["", "", ""]
            os.kill(d.pids["booking"], signal.SIGSTOP)
            began = time.monotonic()
            world.until(lambda: all(watch.breached(sampler) for watch in watches), "no breach")
            took = time.monotonic() - began
            os.kill(d.pids["booking"], signal.SIGCONT)
            world.until(lambda: not sampler.failing(["booking"], 1.0), "no recovery")
        finally:
            sampler.stop()
    assert 0.5 < took < 6
