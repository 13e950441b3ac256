"""The demo's settings, load summary and metrics text."""

from __future__ import annotations

import ast
from argparse import ArgumentParser
from pathlib import Path

import chaosd.demo
from chaosd.demo.load import Shot, Summary, percentiles
from chaosd.demo.metrics import Requests
from chaosd.demo.settings import Settings, add_arguments, from_arguments


def test_settings_survive_a_command_line() -> None:
    settings = Settings(name="d", retry=False, cache=False, pms_latency=0.25, pool=3, pool_age=2.5)
    parser = ArgumentParser()
    add_arguments(parser)
    assert from_arguments(parser.parse_args(settings.argv())) == settings
    assert from_arguments(parser.parse_args([])) == Settings()
    assert from_arguments(parser.parse_args(["--no-retry", "--no-breaker", "--no-cache"])) == Settings(
        retry=False, breaker=False, cache=False
    )


def test_percentiles_are_nearest_rank() -> None:
    assert percentiles([float(n) for n in range(100, 0, -1)]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert percentiles([7.0]) == {"p50": 7, "p95": 7, "p99": 7, "max": 7}
    assert percentiles([]) == {}


def test_a_summary_counts_every_outcome() -> None:
    shots = [
        Shot(0.1, 0.01, "200"),
        Shot(0.2, 0.02, "503"),
        Shot(0.3, 0.03, "timeout"),
        Shot(0.4, 0.04, "201"),
    ]
    data = Summary(2.0, shots).data()
    assert (data["requests"], data["errors"], data["error_rate"], data["rate"]) == (4, 2, 0.5, 2.0)
    assert data["outcomes"] == {"200": 1, "503": 1, "timeout": 1, "201": 1}
    assert Summary(1.0, []).data()["error_rate"] == 0


def test_buckets_are_cumulative_and_take_the_upper_bound_in() -> None:
    requests = Requests()
    for seconds in (0.005, 0.006, 99.0):
        requests.add("/q", 200, seconds)
    text = list(requests.lines())
    assert 'demo_requests_total{path="/q",status="200"} 3' in text
    assert 'demo_request_seconds_bucket{le="0.005"} 1' in text
    assert 'demo_request_seconds_bucket{le="10"} 2' in text
    assert 'demo_request_seconds_bucket{le="+Inf"} 3' in text


def test_the_demo_imports_nothing_of_the_rest() -> None:
    for path in Path(chaosd.demo.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [f"{node.module}"] if isinstance(node, ast.ImportFrom) else []
            for name in named:
                assert not name.startswith("chaosd") or name.startswith("chaosd.demo"), (path.name, name)
