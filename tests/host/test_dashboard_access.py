"""Who is let in to the dashboard, who may only look, and who is kept out."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import daemonized
import pytest
from daemonized import Connection, Daemon
from devtools import chromium
from test_dashboard import dashboard
from world import until

NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon() as made:
        yield made


def test_who_may_only_look_cannot_press_anything(tmp_path: Path) -> None:
    with daemonized.daemon("readers: everybody\n") as daemon, chromium(tmp_path) as browser:
        reader = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        reader += ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        with dashboard(daemon, *reader) as url:
            page = browser.page(url)
            page.until_text("nobody may only look", "#notices")
            assert page.value("document.querySelector('#stop').disabled")
            assert "may only look" in page.value("document.querySelector('#stop').title")
            page.value("location.hash = '#/start/service-pause'")
            page.until_text("Preview the plan", "form")
            assert page.value(
                "[...document.querySelectorAll('[data-acts]')].every((b) => b.disabled && b.title)"
            )
            status = page.value("fetch('v1/stop', {method: 'POST', body: '{}'}).then((a) => a.status)")
            assert status == 403
        assert_opened_by_a_file_of_ones_own(daemon, reader, tmp_path)


def assert_opened_by_a_file_of_ones_own(daemon: Daemon, reader: tuple[str, ...], folder: Path) -> None:
    """What others could read of the process of a browser does not have the ticket."""
    browser, seen = daemon.folder / "browser", daemon.folder / "seen"
    browser.write_text(
        f'#!/bin/sh\n(stat -c %a "${{1#file://}}"; cat "${{1#file://}}") > {seen}\nexec sleep 2\n', "utf-8"
    )
    browser.chmod(0o755)
    seen.touch()
    os.chown(seen, NOBODY, NOBODY)
    screen = {"DISPLAY": ":99", "BROWSER": f"{browser} %s", "XDG_RUNTIME_DIR": "/tmp"}
    argv = [*reader, sys.executable, "-m", "chaosd", "dashboard"]
    with subprocess.Popen(argv, env=daemon.env | screen, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        until(lambda: seen.read_text("utf-8"), "no browser was opened")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    mode, page = seen.read_text("utf-8").split("\n", 1)
    assert mode == "600"
    assert f'url={said[2].strip()}"' in page


class Stranger:
    """A client that is no browser of ours."""

    def __init__(self, url: str) -> None:
        self.port = int(url.split(":")[2].split("/")[0])
        self.ticket = url.partition("?ticket=")[2]
        self.host = f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, "{}" if method == "POST" else None, {"host": self.host} | headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def test_nobody_comes_in_without_the_key_from_another_name_or_page(daemon: Daemon) -> None:
    with dashboard(daemon) as url:
        stranger = Stranger(url)
        for path in (
            "/",
            "/v1/status",
            "/?ticket=",
            "/?ticket=wrong",
            "/?ticket=%C3%A4",
            "/web/app.js",
            "//",
            "/x/v1/status",
        ):
            assert stranger.ask("GET", path)[0] == 401, path
        assert stranger.ask("HEAD", f"/?ticket={stranger.ticket}")[0] == 401, (
            "a look ahead does not use it up"
        )
        assert (
            stranger.ask("GET", f"/?ticket={stranger.ticket}", host=f"evil.example:{stranger.port}")[0] == 403
        )
        status, headers, welcome = stranger.ask("GET", f"/?ticket={stranger.ticket}")
        assert status == 200
        assert stranger.ask("GET", f"/?ticket={stranger.ticket}")[0] == 401, "good once"
        cookie = headers["set-cookie"]
        room = cookie.partition("Path=")[2].partition(";")[0]
        assert room in welcome
        assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
        key = {"cookie": cookie.partition(";")[0]}
        assert stranger.ask("GET", f"{room}v1/status", **key)[0] == 200
        for names in (
            {"host": "evil.example"},
            {"host": f"127.0.0.1.evil.example:{stranger.port}"},
            {"host": ""},
        ):
            assert stranger.ask("GET", f"{room}v1/status", **key | names)[0] in (400, 403)
        assert stranger.ask("GET", f"{room}v1/status")[0] == 401
        assert stranger.ask("GET", "/v1/status", **key)[0] == 401
        stop = f"{room}v1/stop"
        assert stranger.ask("POST", stop, origin=f"http://{stranger.host}")[0] == 401
        for origin in (
            {},
            {"origin": "null"},
            {"origin": "http://evil.example"},
            {"origin": f"http://localhost:{stranger.port}"},
        ):
            assert stranger.ask("POST", stop, **key, **origin)[0] == 403, origin
        assert stranger.ask("POST", stop, **key, origin=f"http://{stranger.host}")[0] == 200
        status, headers, page = stranger.ask("GET", room, **key)
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "<script>" not in page
        assert stranger.ask("GET", f"{room}web/..%2Findex.html", **key)[0] == 404
        assert stranger.ask("GET", f"{room}v1/history?limit=0", **key)[0] == 422


def test_the_daemon_itself_heeds_no_page_of_others(daemon: Daemon) -> None:
    def ask(**headers: str) -> int:
        connection = Connection(daemon.socket)
        connection.request("POST", "/v1/stop", "{}", {"host": "chaos.example:7878"} | headers)
        return connection.getresponse().status

    assert ask(origin="https://evil.example") == ask(origin="null") == 403
    assert ask(origin="https://chaos.example:7878") == ask() == 200
