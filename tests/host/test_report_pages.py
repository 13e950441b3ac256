"""A real run told in every form, and its page opened in a real browser."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import junitparser
import pytest
from browser import Browser
from test_run import Shell
from world import need

from chaosd.kernel.capability_network import GATE

NAME = "</script><img src=x onerror=alert(1)>"
SCENARIO = """
name: "NAME"
description: Every answer is late. A healthy service answers all the same.
duration: DURATION
target: pid:{pid}
seed: 11
steady_state:
  - http: {{name: server, url: "http://127.0.0.1:8000/", netns: "{ns}", within: 1s, rate: 10}}
faults:
  - network.delay: {{delay: DELAY}}
abort_when: [server.p95 > 900ms for 5s]
""".replace("NAME", NAME)
BLUE = {"light": (0x25, 0x63, 0xC9), "dark": (0x6A, 0xA4, 0xFF)}
PLOTS = ("latency", "availability", "throughput", "evidence")


class Ran:
    """Two runs of one scenario, the second one with a longer delay, and what was written of the first."""

    def __init__(self, shell: Shell) -> None:
        need(GATE)
        self.shell, self.folder = shell, shell.folder / "out"
        for delay in ("50ms", "150ms"):
            scenario = shell.scenario(SCENARIO.replace("DELAY", delay).replace("DURATION", "3s"))
            words = ("--report", str(self.folder)) if delay == "50ms" else ()
            status, out = shell.run("run", scenario, *words)
            assert status == 0, out
        self.view = json.loads((self.folder / "result.json").read_text("utf-8"))
        self.page = self.folder / "report.html"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ExitStack() as stack:
        yield Ran(Shell(stack, tmp_path_factory.mktemp("report")))


def test_run_writes_every_form(ran: Ran) -> None:
    assert {path.name for path in ran.folder.iterdir()} == {
        "result.json",
        "report.html",
        "junit.xml",
        "summary.md",
    }
    assert "series" not in ran.view
    (suite,) = junitparser.JUnitXml.fromfile(str(ran.folder / "junit.xml"))
    (case,) = suite
    assert (case.name, case.is_passed) == (NAME, True)
    told = {entry.name: entry.value for entry in suite.properties()}
    assert float(told["server.during.p50"]) == pytest.approx(0.1, rel=0.3), "two round trips of 50 ms more"
    assert int(told["hits"]) > 10
    assert "<img" not in (ran.folder / "summary.md").read_text("utf-8")


def test_the_journal_tells_the_same_as_the_run(ran: Ran) -> None:
    status, out = ran.shell.run("report", ran.view["run"], "--json")
    assert status == 0
    (run,) = json.loads(out)["runs"]
    assert (run["verdict"], run["scenario"], run["hits"]) == (
        "passed",
        NAME,
        ran.view["evidence"][0]["injected"],
    )
    assert run["command"].startswith(f"chaosd run FILE --target pid:{ran.shell.server} ")
    assert run["command"].endswith("--duration 3s --seed 11")
    assert run["faults"][0]["fields"] == {"delay": "50ms"}
    assert run["availability"] == 1
    assert run["score"]["value"] > 99
    series = run["series"]
    assert len(series["at"]) >= 10
    fault = [
        p50 for at, p50 in zip(series["at"], series["checks"]["server"]["p50"], strict=True) if 2 < at < 3
    ]
    assert fault
    assert all(p50 == pytest.approx(0.1, rel=0.3) for p50 in fault)
    (counts,) = series["faults"].values()
    hits = sum(rate or 0 for rate in counts["injected"]) * 0.5
    assert hits == pytest.approx(run["hits"], rel=0.4), "a rate over half a second each"


def test_the_page_draws_its_plots_and_has_nothing_to_complain_about(ran: Ran, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    dom, console = browser.dom(ran.page)
    assert not console
    assert dom.count("<canvas") == len(PLOTS)
    assert f"<h1>{NAME.replace('<', '&lt;').replace('>', '&gt;')}</h1>" in dom
    assert "<img" not in dom
    for theme, blue in BLUE.items():
        words = ("--force-dark-mode",) if theme == "dark" else ()
        pixels = browser.colors(ran.page, 1100, 1000, *words)
        assert pixels.get(blue, 0) > 500, f"no line is drawn in {theme}"
        assert pixels.get(BLUE["dark" if theme == "light" else "light"], 0) == 0
    assert browser.colors(ran.page, 390, 1600).get(BLUE["light"], 0) > 300, "nothing is drawn on a phone"


def test_a_script_that_got_into_a_page_would_not_run(ran: Ran, tmp_path: Path) -> None:
    """What escaping is for is also forbidden by the page's policy; and a console that complains is seen."""
    page = tmp_path / "spoilt.html"
    page.write_text(
        ran.page.read_text("utf-8").replace("<h1>", "<script>document.title = 'spoilt'</script><h1>"), "utf-8"
    )
    dom, console = Browser(tmp_path).dom(page)
    assert "Content Security Policy" in console[0]
    assert "<title>spoilt" not in dom


def test_two_runs_are_compared(ran: Ran, tmp_path: Path) -> None:
    status, out = ran.shell.run("history", "--json")
    assert status == 0
    newest, oldest = json.loads(out)
    assert oldest["run"] == ran.view["run"]
    assert newest["score"] > 99
    status, out = ran.shell.run("report", newest["run"], "--against", oldest["run"])
    assert status == 0
    (line,) = (line for line in out.splitlines() if line.startswith("server during") and " p50 " in line)
    assert line.endswith("worse")
    page = tmp_path / "compared.html"
    assert ran.shell.run("report", "--against", oldest["run"], "--output", str(page))[0] == 0
    dom, console = Browser(tmp_path).dom(page)
    assert not console
    assert dom.count("<canvas") == 2


def test_a_run_that_was_killed_can_be_told(ran: Ran, tmp_path: Path) -> None:
    scenario = ran.shell.scenario(SCENARIO.replace("DELAY", "20ms").replace("DURATION", "60s"))
    process = ran.shell.start("run", scenario)
    path = ran.shell.wait_phase("fault")
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(path.read_bytes()[:-40])
    out = ran.shell.run("history", "--json", "--limit", "1")[1]
    assert (json.loads(out)[0]["verdict"], json.loads(out)[0]["score"]) == ("unfinished", None)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert ran.shell.run("revert", "--all")[0] == 0
    out = ran.shell.run("report", path.stem, "--json")[1]
    assert json.loads(out)["runs"][0]["verdict"] == "killed"
    page = tmp_path / "cut.html"
    assert ran.shell.run("report", str(cut), "--output", str(page))[0] == 0
    assert "the journal ends in phase" in page.read_text("utf-8")
    assert not Browser(tmp_path).dom(page)[1]
