"""The dashboard in a real browser: a run is started, watched and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import daemonized
import pytest
import world
from daemonized import PAUSE, Daemon
from devtools import Page, chromium
from orchestrating import state_of
from test_run import SERVER
from world import need, python, until

from chaosd.kernel.capability_network import GATE

EVIL = "<img src=x onerror=\"document.title='spoilt'\">"
OWN = """
name: mine
description: EVIL
duration: 1500ms
target: pid:{pid}
steady_state:
  - http: {{name: "EVIL", url: "http://127.0.0.1:8000/", netns: "{ns}", within: 1s, rate: 10}}
faults:
  - network.delay: {{delay: 50ms}}
abort_when: [error_rate > 90%]
""".replace("EVIL", EVIL.replace('"', '\\"'))
WIDE = """
name: wide
duration: 1s
blast_radius: entire-system
target: host
faults: [network.loss: {percent: 1%}]
"""
MONKEY = """
hours: "00:00-24:00"
days: mon-sun
probability: 0%
scenarios: [cpu-throttling]
targets: {comm: [nothing-like-it]}
"""
SUITE = "name: two\npause: 0s\nscenarios: [service-pause, service-pause]\n"


class World:
    """A daemon, a browser and a small server in a namespace of its own."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        (folder / "ape.yaml").write_text(MONKEY, "utf-8")
        self.daemon = stack.enter_context(daemonized.daemon(f"monkey: {folder}/ape.yaml\n"))
        self.ns = stack.enter_context(world.netns())
        server = stack.enter_context(world.spawn(python(SERVER), ns=self.ns))
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        self.server = server.pid
        self.browser = stack.enter_context(chromium(folder))
        self.page = self.browser.page(stack.enter_context(dashboard(self.daemon)))
        self.page.until_text("idle", "#link")


@contextmanager
def dashboard(daemon: Daemon, *within: str) -> Iterator[str]:
    """The command; the address that it says."""
    argv = [*within, sys.executable, "-m", "chaosd", "dashboard", "--json"]
    with subprocess.Popen(
        argv, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert process.stderr.read() == ""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(autouse=True)
def free(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a run to the next one."""
    yield
    if "here" in request.fixturenames:
        request.getfixturevalue("here").daemon.post("/v1/stop", {"all": True})


def fits(page: Page) -> bool:
    return bool(page.value("document.documentElement.scrollWidth <= innerWidth"))


def test_a_run_is_chosen_planned_confirmed_watched_and_stopped(here: World) -> None:
    need(GATE)
    page = here.page
    page.click("#nav a", "Library")
    page.write("input[type=search]", "latency 2 s late")
    page.click(".scenarios a", "network-latency")
    settings = {"from": here.ns.path, "url": "http://127.0.0.1:8000/", "delay": "150ms", "jitter": "0ms"}
    for key, value in settings.items():
        page.write(f"#f-set-{key}", value)
    page.write("#f-target", "pid:1")
    page.press("Enter", 13)
    page.until_text("pid:1", ".plan .refused")
    page.write("#f-target", f"pid:{here.server}")
    page.click("button", "Preview the plan")
    page.until_text("nothing was touched".capitalize(), ".plan")
    assert "reaches single-service" in page.text(".plan")
    assert not here.daemon.journals()
    page.click("#begin")
    page.until_text(f"Inject network.delay into pid:{here.server}", ".confirm")
    page.click("#yes")
    page.until_text("s left", ".phases .here")
    run = page.value("location.hash").removeprefix("#/run/")
    for plot in ("latency", "errors", "throughput", "evidence"):
        page.until(f"document.querySelector('[data-plot={plot}]').dataset.points > 6")
        page.until(f"Boolean(document.querySelector('[data-plot={plot}] canvas'))")
    page.until(
        "/ now .* 3\\d\\d ms /.test(document.querySelector('.of-checks').innerText.replace(/\\s+/g, ' '))"
    )
    assert "live: network-latency" in page.text("#link")
    page.click("#stop")
    page.until_text(f"Stopped 1 run {run}. Host restored.", "#notices")
    page.until_text("Host restored: ", "#restored")
    assert "all the same" in page.text("#restored")
    assert page.text(".ended strong") == "interrupted"
    found = here.daemon.get(f"/v1/runs/{run}")
    assert (found["verdict"], found["restored"]["differs"]) == ("interrupted", [])
    assert not any(edit["open"] for edit in found["edits"].values())
    assert not here.daemon.journals()
    page.value("document.activeElement.blur()")
    while page.value("document.activeElement.id") != "stop":
        page.press("Tab", 9)
    page.press("Enter", 13)
    page.until_text("No run was live", "#notices")
    assert page.complaints(but="status of 422") == []


def test_a_run_ends_by_itself_and_is_told_of_and_what_it_says_is_text(here: World) -> None:
    need(GATE)
    page = here.page
    page.click("#nav a", "Library")
    page.click("a", "Write your own")
    page.write("#f-text", OWN.format(pid=here.server, ns=here.ns.path))
    page.click("button", "Preview the plan")
    page.click("#begin")
    page.click("#yes")
    page.until_text("passed", ".ended strong")
    run = page.value("location.hash").removeprefix("#/run/")
    assert EVIL in page.text(".of-about")
    assert EVIL in page.text(".of-checks")
    page.until_text("Host restored: ", "#restored")
    page.click("#nav a", "History")
    page.until_text(run, "table")
    assert "passed" in page.text("tbody tr")
    for width, height in ((1280, 800), (390, 800)):
        page.resize(width, height)
        for place in ("#/", "#/library", "#/start/network-latency", "#/start", f"#/run/{run}", "#/history"):
            page.value(f"location.hash = {json.dumps(place)}")
            page.until("document.querySelector('h1') && !document.body.innerText.includes('Reading')")
            assert fits(page), (place, width)
            assert page.value("document.querySelector('#stop').getBoundingClientRect().right <= innerWidth")
    page.resize(1280, 800)
    page.value(f"location.hash = '#/run/{run}'")
    page.click("a", "Report")
    until(lambda: any("format=html" in url for url in here.browser.opened()), "no report was opened")
    address = next(url for url in here.browser.opened() if "format=html" in url)
    report = here.browser.page(address)
    report.until("document.querySelectorAll('canvas').length > 2")
    assert report.value("origin") == "null", "what got into a report may not speak to the API"
    assert report.complaints(but="favicon.ico") == [], "a report has no picture of its own"
    page.front()
    assert page.value("document.querySelectorAll('img').length") == 0
    assert "spoilt" not in page.value("document.title")
    assert page.complaints() == []


def test_the_entire_system_is_confirmed_by_its_name(here: World) -> None:
    page = here.page
    page.value("location.hash = '#/start'")
    page.write("#f-text", WIDE)
    page.click("button", "Preview the plan")
    page.until_text("reaches entire-system", ".plan")
    page.click("#begin")
    page.until_text("type entire-system", ".confirm")
    assert page.value("document.querySelector('#yes').disabled")
    page.write("#f-word", "entire-systen")
    assert page.value("document.querySelector('#yes').disabled")
    page.write("#f-word", "entire-system")
    assert not page.value("document.querySelector('#yes').disabled")
    page.click(".confirm button", "Cancel")
    assert not here.daemon.journals()
    status, problem = here.daemon.ask("POST", "/v1/runs", {"text": WIDE})
    assert (status, "entire system" in problem["error"]) == (422, True)


def test_stop_all_ends_a_suite_and_a_run_that_the_daemon_has_not_started(here: World) -> None:
    pid = here.daemon.sleeper()
    settings = {"url": "http://127.0.0.1:8000/", "from": here.ns.path}
    order = {"text": SUITE, "target": f"pid:{pid}", "duration": "60s", "set": settings}
    here.daemon.post("/v1/suites", order)
    here.page.until_text("live: service-pause", "#link")
    here.page.click("#stop")
    here.page.until_text("Host restored.", "#notices")
    assert here.daemon.get("/v1/status")["live"] == []
    argv = [
        sys.executable,
        "-m",
        "chaosd",
        "inject",
        "process.pause",
        "--target",
        f"pid:{pid}",
        "--duration",
        "60s",
    ]
    with subprocess.Popen(
        argv, env=here.daemon.env | {"CHAOSD_ALONE": "1"}, stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: state_of(pid) == "T", "not paused", 30)
        here.page.until_text("live: process.pause", "#link")
        here.page.click("#link a")
        here.page.until_text("s left", ".phases .here")
        here.page.click("#stop")
        here.page.until_text("Host restored: ", "#restored")
        assert state_of(pid) == "S"
        process.wait(20)
    assert here.page.complaints() == []


def test_a_second_run_is_refused_and_the_one_that_holds_the_host_is_named(here: World) -> None:
    page = here.page
    run = here.daemon.pause(here.daemon.sleeper())
    page.value("location.hash = '#/start'")
    page.write("#f-text", PAUSE.format(duration="1s"))
    page.write("#f-target", f"pid:{here.daemon.sleeper()}")
    page.click("button", "Preview the plan")
    page.click("#begin")
    page.click("#yes")
    page.until_text(f"another run holds this host: {run}", ".confirm")
    page.click(".confirm a", "Watch it")
    page.until_text("s left", ".phases .here")
    assert page.value("location.hash") == f"#/run/{run}"
    page.click("button", "Stop this run")
    page.until_text("Host restored: ", "#restored")
    assert page.complaints(but="status of 409") == []


def test_a_schedule_is_paused_and_resumed(here: World) -> None:
    folder = here.daemon.folder / "config" / "schedules.d"
    folder.mkdir(parents=True)
    (folder / "night.yaml").write_text('cron: "0 3 1 1 *"\nscenario: service-pause\ntarget: pid:1\n', "utf-8")
    page = here.page
    page.value("location.hash = '#/'")
    page.until_text("service-pause on pid:1")
    page.click("button", "Pause")
    page.until_text("paused", ".rows .pill")
    assert here.daemon.get("/v1/schedules")[0]["paused"]
    page.click("button", "Resume")
    page.until_text("next ", ".rows")
    assert not here.daemon.get("/v1/schedules")[0]["paused"]
    assert page.complaints() == []
    (folder / "night.yaml").unlink()


def test_the_monkey_is_paused_and_resumed(here: World) -> None:
    page = here.page
    page.value("location.hash = '#/'")
    page.until_text("next tick ", "main")
    page.click("button[aria-label='Pause ape']")
    page.until_text("paused", ".rows .pill")
    assert "rests" in page.text("main")
    assert here.daemon.get("/v1/status")["monkey"]["paused"]
    assert "ape: paused" in here.daemon.command("monkey", "status")[1]
    page.click("button[aria-label='Resume ape']")
    page.until("!document.querySelector('.rows .pill')")
    page.until_text("next tick ", "main")
    assert not here.daemon.get("/v1/status")["monkey"]["paused"]
    here.daemon.command("monkey", "pause")  # the page hears of what others do
    page.until_text("paused", ".rows .pill")
    here.daemon.command("monkey", "resume")
    page.until("!document.querySelector('.rows .pill')")
    assert page.complaints() == []


def test_what_the_host_can_do_is_shown_once_it_is_known(here: World) -> None:
    page = here.page
    page.click("#nav a", "Host")
    page.until_text("Trying every mechanism")
    page.until_text("What this host can do")
    assert "process.pause" in page.text("tbody")
    assert f"Linux {os.uname().release}" in page.text("main")
    assert page.complaints() == []


def test_a_daemon_that_is_gone_is_said_to_be_and_comes_back(here: World) -> None:
    page, daemon = here.page, here.daemon
    pid = daemon.sleeper()
    run = daemon.pause(pid)
    page.value(f"location.hash = '#/run/{run}'")
    page.until_text("s left", ".phases .here")
    page.value("location.hash = '#/'")
    page.until_text(f"run {run} on pid:{pid}")
    page.click("a", "Watch")
    page.until_text("s left", ".phases .here")
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    page.until_text("The daemon does not answer", "#notices")
    until(lambda: not daemon.journals(), "not put back", 30)
    daemon.start()
    page.until("!document.querySelector('#notices').innerText.includes('does not answer')")
    page.until_text("Host restored: ", "#restored")
    assert state_of(pid) == "S"
