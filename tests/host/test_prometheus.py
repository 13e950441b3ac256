"""A real Prometheus scrapes a daemon through its runs; what it has then is what their reports say."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import daemonized
import pytest
import world
import yaml
from daemonized import Daemon, as_user
from programs import installed
from world import need, until

ROOT = Path(__file__).parents[2]
PROMETHEUS = installed("prometheus", "prometheus", "prometheus")
LOSS = """
name: lossy
duration: {duration}
target: "dev:lo@{ns}"
steady_state: [{{tcp: {{host: 127.0.0.1, port: {port}, within: 1s, rate: 20}}}}]
faults: [network.loss: {{percent: 20%}}]
"""


def free() -> int:
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        return int(end.getsockname()[1])


class Prometheus:
    """A Prometheus that scrapes one target five times a second; ``ask`` gives what an expression is."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free()
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n"
            f"rule_files: [{ROOT}/docs/prometheus/chaosd.rules.yml]\n"
            "scrape_configs:\n"
            f'- {{job_name: chaosd, static_configs: [{{targets: ["127.0.0.1:{target}"]}}]}}\n',
            "utf-8",
        )
        words = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", *words, f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log
            )

    def api(self, path: str, **query: str) -> Any:
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(query)}").read()
        return json.loads(text)

    def series(self, expression: str) -> dict[tuple[str, ...], float]:
        """Values by those of the labels, in the order of the labels' names."""
        answer = self.api("query", query=expression)
        assert answer["status"] == "success", answer
        found = {}
        for each in answer["data"]["result"]:
            labels = {k: v for k, v in each["metric"].items() if k not in ("__name__", "job", "instance")}
            found[tuple(labels[key] for key in sorted(labels))] = float(each["value"][1])
        return found

    def one(self, expression: str) -> float | None:
        found = self.series(expression)
        assert len(found) < 2, found
        return next(iter(found.values()), None)

    def up(self) -> bool:
        try:
            return self.one("up") == 1
        except OSError:
            return False


@pytest.fixture
def port() -> int:
    return free()


@pytest.fixture
def daemon(port: int) -> Iterator[Daemon]:
    with daemonized.daemon(f"metrics: {{port: {port}}}\n") as made:
        yield made


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[Prometheus]:
    need(PROMETHEUS)
    made = Prometheus(folder, target)
    try:
        until(made.up, "prometheus does not scrape", 60)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(60)


@contextmanager
def traffic() -> Iterator[dict[str, object]]:
    """A namespace with a datagram on its lo every few milliseconds, and a port of this host that answers."""
    talker = (
        "import socket, time\n"
        "end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "while True: end.sendto(b'x', ('127.0.0.1', 9)); time.sleep(0.005)\n"
    )
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        ns = stack.enter_context(world.netns())
        stack.enter_context(world.spawn(world.python(talker), ns=ns))
        yield {"port": listener.getsockname()[1], "ns": ns.path}


def ended(daemon: Daemon, run: str) -> dict[str, Any]:
    """The one run of its report, when it is over."""
    daemon.events(run)
    report = json.loads(daemon.read("GET", f"/v1/runs/{run}/report?format=json")[1])
    (found,) = report["runs"]
    return dict(found)


def test_prometheus_has_what_the_report_says(daemon: Daemon, port: int, tmp_path: Path) -> None:
    with prometheus(tmp_path, port) as server, traffic() as places:
        assert server.series("chaos_schedule_problems") == {(): 0}
        text = LOSS.format(duration="3s", **places)
        run = daemon.post("/v1/runs", {"text": text})["run"]
        until(lambda: server.one("chaos_faults_active") == 1, "no fault is seen", 30)
        assert server.series("experiments_running") == {("lossy",): 1}
        assert (server.one("chaos_edits_open") or 0) >= 1
        until(lambda: (server.one("chaos_injected_total") or 0) > 5, "it does not count as it goes", 30)
        report = ended(daemon, run)
        assert report["verdict"] == "passed", report["reason"]
        closed = 'experiments_total{verdict="passed"}'
        until(lambda: server.series(closed) == {("lossy", "passed"): 1}, "it is not closed", 30)
        (evidence,) = report["evidence"]
        assert server.series("chaos_matched_total") == {("network.loss", "packets"): evidence["matched"]}
        assert server.series("chaos_injected_total") == {("network.loss", "packets"): evidence["injected"]}
        assert evidence["injected"] > 5
        assert server.one("chaos_revert_seconds_sum") == pytest.approx(report["restoration"]["took"])
        assert server.one("experiments_recovery_seconds_sum") == pytest.approx(report["recovered_after"])
        assert server.one("experiments_last_recovery_seconds") == pytest.approx(report["recovered_after"])
        assert server.one("experiments_last_availability_ratio") == pytest.approx(report["availability"])
        assert server.one("experiments_last_score") == pytest.approx(report["score"]["value"])
        mechanism = report["faults"][0]["mechanism"]
        assert server.series("chaos_faults_total") == {("network.loss", mechanism): 1}
        for gone in ("experiments_running", "chaos_faults_active", "chaos_edits_open", "chaos_edits_stuck"):
            assert set(server.series(gone).values()) == {0}, gone
        assert set(server.series("chaos_residues_total").values()) == {0}
        assert sum(server.series("experiments_total").values()) == 1


def test_every_expression_of_rules_and_dashboard_works(daemon: Daemon, port: int, tmp_path: Path) -> None:
    with prometheus(tmp_path, port) as server:
        board = json.loads((ROOT / "docs/prometheus/dashboard.json").read_text("utf-8"))
        expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        expressions += [each["expr"] for each in board["annotations"]["list"]]
        assert len(expressions) > 15
        run = daemon.pause(daemon.sleeper(), "1s")
        assert ended(daemon, run)["verdict"] == "passed"
        until(lambda: server.series("experiments_last_ended_timestamp_seconds"), "it is not closed", 30)
        variables = {"$instance": ".*", "$scenario": ".*", "$__rate_interval": "5s", "$__interval": "5s"}
        for text in expressions:
            plain = re.sub(r"\$\w+", lambda match: variables.get(match[0], "1h"), text)
            assert server.api("query", query=plain)["status"] == "success", plain
        groups = server.api("rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        written = yaml.safe_load((ROOT / "docs/prometheus/chaosd.rules.yml").read_text("utf-8"))["groups"]
        assert len(rules) == sum(len(group["rules"]) for group in written)
        until(lambda: all(rule["health"] == "ok" for rule in rules_of(server)), "a rule fails", 30)
        assert not server.api("alerts")["data"]["alerts"], "nothing is wrong here"


def rules_of(server: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in server.api("rules")["data"]["groups"] for rule in group["rules"]]


def test_a_daemon_that_is_killed_under_a_fault_is_told_of(daemon: Daemon, port: int, tmp_path: Path) -> None:
    with prometheus(tmp_path, port) as server:
        run = daemon.pause(daemon.sleeper())
        until(lambda: server.one("chaos_faults_active") == 1, "no fault is seen", 30)
        daemon.process.kill()
        daemon.process.wait()
        firing = "ALERTS{alertname='ChaosdDownWithFaultLive', severity='critical', alertstate='firing'}"
        until(lambda: server.series(firing), "no alert", 60)
        until(lambda: not daemon.family(), "processes are left", 60)
        daemon.start()
        until(lambda: server.up() and not server.series(firing), "the alert stays", 30)
        assert set(server.series("experiments_total").values()) <= {0}, "closed before it began"
        assert daemon.get(f"/v1/runs/{run}")["verdict"]


def scraped(port: int) -> str:
    return str(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())


def test_runs_beside_the_daemon_count_too(daemon: Daemon, port: int) -> None:
    pid = daemon.sleeper()
    words = ("inject", "process.pause", "--target", f"pid:{pid}", "--duration", "2s")
    env = daemon.env | {"CHAOSD_ALONE": "1"}
    process = subprocess.Popen([sys.executable, "-m", "chaosd", *words], env=env, stdout=subprocess.DEVNULL)
    live = 'chaos_faults_active{fault="process.pause"} 1.0'
    until(lambda: live in scraped(port), "a run of somebody else is not seen", 30)
    assert 'experiments_running{scenario="process.pause"} 1.0' in scraped(port)
    assert process.wait(60) == 0
    for _ in range(2):
        text = scraped(port)
        assert 'experiments_total{scenario="process.pause",verdict="passed"} 1.0' in text
        assert 'experiments_started_total{scenario="process.pause"} 1.0' in text
        assert 'experiments_running{scenario="process.pause"} 0.0' in text


def test_an_engine_that_is_killed(daemon: Daemon, port: int) -> None:
    run = daemon.pause(daemon.sleeper())
    daemon.wait_phase(run, "fault")
    engine = daemon.get(f"/v1/runs/{run}")["process"]["pid"]
    subprocess.run(["kill", "-KILL", str(engine)], check=True)
    closed = 'experiments_total{scenario="pause",verdict="killed"} 1.0'
    until(lambda: closed in scraped(port), "it is not counted", 60)
    assert "chaos_edits_stuck 0.0" in scraped(port)


def test_the_port_has_metrics_and_nothing_else(daemon: Daemon, port: int) -> None:
    assert as_user(65534, 65534, lambda: "chaos_build_info{" in scraped(port))
    for path in ("/v1/status", "/openapi.json", "/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}")
    for method in ("POST", "PUT", "DELETE"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request)
    assert "chaos_build_info{" in daemon.read("GET", "/metrics")[1].decode(), "and on the API as well"
    text = scraped(port)
    for secret in ("pid:", str(daemon.folder), "127.0.0.1"):
        assert secret not in text


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place = tmp_path / "daemon.yaml"
        place.write_text(f"socket: {tmp_path}/api.sock\nmetrics: {{port: {port}}}\n", "utf-8")
        words = [sys.executable, "-m", "chaosd", "daemon", "--config", str(place)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"metrics on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "api.sock").exists()


def test_a_daemon_that_is_scraped_stays_small(daemon: Daemon, port: int) -> None:
    """docs/costs.md: the idle daemon and its zygote have 60 MiB at most, shared pages counted once."""
    for _ in range(50):
        scraped(port)
    began = time.monotonic()
    for _ in range(20):
        scraped(port)
    assert (time.monotonic() - began) / 20 < 0.1, "for each scrape"
    text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text("ascii") for pid in daemon.family())
    size = sum(int(number) for number in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE))
    print(f"{size / 1024:.1f} MiB")
    assert size < 60 << 10
