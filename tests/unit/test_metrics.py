"""Metrics as a fold over journals; what is in docs/ about them; and the alerts, by promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse
from told import cut, stats, tape, told

from chaosd.metrics import exporter, seen
from chaosd.metrics.exporter import MOST, Exporter
from chaosd.metrics.seen import Seen
from chaosd.metrics.table import METRICS
from chaosd.report.fold import View, fold

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
RULES = DOCS / "prometheus/chaosd.rules.yml"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: tests/setup.sh test")


def value(made: Exporter, name: str, **labels: str) -> float | None:
    """The value of one series, None if there is none."""
    text = made.text("")[0].decode()
    samples = [sample for family in parse(text) for sample in family.samples]
    return next((it.value for it in samples if (it.name, it.labels) == (name, labels)), None)


def closed(view: View) -> Seen:
    return seen.of(view, closed=True)


def running(records: list[dict[str, Any]], **process: int) -> Seen:
    view = fold(records)
    view.process = process or {"pid": 1, "start_time": _start_of_init()}
    return seen.of(view)


def _start_of_init() -> int:
    return int(Path("/proc/1/stat").read_text("ascii").rpartition(")")[2].split()[19])


def test_a_run_that_is_closed() -> None:
    made = Exporter()
    made.take([closed(told())])
    name = {"scenario": "network-latency"}
    assert value(made, "experiments_total", **name, verdict="passed") == 1
    assert value(made, "experiments_total", **name, verdict="failed") == 0, "there before it grows"
    assert value(made, "experiments_started_total", **name) == 1
    assert value(made, "experiments_breached_total", **name) == 0
    assert value(made, "experiments_recovery_seconds_sum") == 0.2
    assert value(made, "chaos_revert_seconds_bucket", le="0.1") == 1
    assert value(made, "chaos_revert_seconds_bucket", le="0.075") == 0
    assert value(made, "experiments_last_availability_ratio", **name) == 1
    assert value(made, "experiments_last_ended_timestamp_seconds", **name) == 1.7e9 + 14
    assert 90 < (value(made, "experiments_last_score", **name) or 0) <= 100
    event = {"fault": "network.delay", "unit": "packets"}
    assert value(made, "chaos_matched_total", **event) == 200
    assert value(made, "chaos_injected_total", **event) == 198
    assert value(made, "chaos_faults_total", fault="network.delay", mechanism="netem") == 1
    assert value(made, "chaos_faults_active", fault="network.delay") is None
    assert value(made, "chaos_edits_open") == value(made, "chaos_edits_stuck") == 0


def test_a_run_counts_as_it_goes_on_and_once() -> None:
    made, records = Exporter(), tape().records
    at = next(i for i, record in enumerate(records) if record.get("when") == "during")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for record in records:
        record["t"] += now - records[at]["t"] if "t" in record else 0
    half = at - 10
    for last, matched in ((half, 100), (half, 100), (at, 200)):
        made.take([running(records[:last])])
        assert value(made, "chaos_matched_total", fault="network.delay", unit="packets") == matched
        assert value(made, "experiments_running", scenario="network-latency") == 1
        assert value(made, "chaos_faults_active", fault="network.delay") == 1
        assert value(made, "chaos_faults_total", fault="network.delay", mechanism="netem") == 1
        assert value(made, "chaos_edits_open") == 1
        assert value(made, "chaos_edits_stuck") == 0
    made.take([closed(fold(records))])
    made.take([])
    assert value(made, "chaos_matched_total", fault="network.delay", unit="packets") == 200
    assert value(made, "experiments_started_total", scenario="network-latency") == 1
    assert value(made, "experiments_total", scenario="network-latency", verdict="passed") == 1
    assert value(made, "experiments_running", scenario="network-latency") == 0
    assert value(made, "chaos_faults_active", fault="network.delay") == 0
    assert value(made, "chaos_edits_open") == 0


def test_a_run_whose_engine_is_dead() -> None:
    made, records = Exporter(), tape().records
    until = next(i for i, record in enumerate(records) if record.get("phase") == "revert")
    made.take([running(records[:until], pid=1, start_time=1)])
    assert value(made, "experiments_running", scenario="network-latency") is None
    assert value(made, "chaos_edits_stuck") == 1
    assert value(made, "chaos_faults_active", fault="network.delay") == 1
    assert (value(made, "chaos_overdue_seconds") or 0) > 100, "this host is up for longer than two minutes"


def test_residues_and_thresholds() -> None:
    made, view = Exporter(), told(verdict="aborted", reason="error_rate > 50%: 60%")
    view.restored["differs"] = ["sysctl a", "qdisc b"]
    view.edits[0].state = "left alone: changed by others"
    made.take([closed(view)])
    assert value(made, "chaos_residues_total", kind="differs") == 2
    assert value(made, "chaos_residues_total", kind="foreign") == 1
    assert value(made, "experiments_breached_total", scenario="network-latency") == 1
    assert value(made, "experiments_total", scenario="network-latency", verdict="aborted") == 1


def test_what_was_never_in_force_or_measured_is_not_there() -> None:
    made = Exporter()
    made.take([closed(cut(lambda record: record.get("phase") == "inject", verdict="refused"))])
    assert value(made, "experiments_total", scenario="network-latency", verdict="unfinished") == 1
    assert value(made, "chaos_faults_total", fault="network.delay", mechanism="netem") is None
    assert value(made, "chaos_revert_seconds_count") == 0
    assert value(made, "experiments_last_recovery_seconds", scenario="network-latency") is None


def test_users_cannot_make_series_without_end() -> None:
    made = Exporter()
    for number in range(MOST + 20):
        made.take([closed(told(name=f"mine-{number}", run=f"{number:06x}"))])
    made.take([closed(told(name="x" * 500))])
    assert value(made, "experiments_total", scenario="other", verdict="passed") == 21
    assert value(made, "experiments_total", scenario="mine-99", verdict="passed") == 1
    assert value(made, "experiments_total", scenario="mine-100", verdict="passed") is None
    made = Exporter()
    made.take([closed(told(name="x" * 500))])
    assert value(made, "experiments_started_total", scenario="x" * exporter._LONGEST) == 1


def test_it_speaks_openmetrics_to_who_asks_for_it() -> None:
    text, kind = Exporter().text("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_every_metric_has_a_name_of_ours_and_is_documented() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    for name, metric in METRICS.items():
        assert name.startswith(("chaos_", "experiments_"))
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{name}` | {metric.kind} | {labels} | {metric.help} |" in page, "run tools/metric_page.py"


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    made = Exporter()
    made.take([closed(told()), running(tape(during=stats()).records[:9])])
    done = subprocess.run(["promtool", "check", "metrics"], input=made.text("")[0], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@needs_promtool
@pytest.mark.parametrize(
    "words",
    [("check", "rules", str(RULES)), ("test", "rules", str(HERE / "chaosd.rules.test.yml"))],
    ids=" ".join,
)
def test_rules_by_promtool(words: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_every_alert_is_tried() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    (HERE / "chaosd.rules.test.yml").read_text("utf-8")
    tests = yaml.safe_load((HERE / "chaosd.rules.test.yml").read_text("utf-8"))["tests"]
    tried = [each for test in tests for each in test["alert_rule_test"]]
    assert alerts == {each["alertname"] for each in tried if each.get("exp_alerts")}
    assert alerts == {each["alertname"] for each in tried if not each.get("exp_alerts")} | {
        "ChaosdRevertSlow"
    }


def expressions() -> list[str]:
    """Every expression of the rules and of the dashboard."""
    rules = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
    board = json.loads((DOCS / "prometheus/dashboard.json").read_text("utf-8"))
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    notes = [each["expr"] for each in board["annotations"]["list"]]
    names = [each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    return [*(rule["expr"] for rule in rules), *panels, *notes, *names]


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    ends = ("", "_bucket", "_sum", "_count")
    known = {f"{name}{end}" for name, it in METRICS.items() for end in ends[: 4 if it.buckets else 1]}
    named = {
        name
        for text in expressions()
        for name in re.findall(r"[\w:]*(?:chaos|experiments)_?[\w:]*", re.sub(r'"[^"]*"', "", text))
    }
    assert len(named) > 15
    assert named <= known | recorded


def test_the_dashboard_has_marks_for_runs_and_faults() -> None:
    board = json.loads((DOCS / "prometheus/dashboard.json").read_text("utf-8"))
    assert [each["name"] for each in board["annotations"]["list"]] == ["Runs", "Faults", "Not passed"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
