"""The JSON schema that editors get: it takes what the parser takes, and no obvious mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chaosd import document
from chaosd.cli.schema import schema
from chaosd.scenario import library

PAGE = Path(__file__).parents[2] / "docs" / "scenario.schema.json"
WRITE = "chaosd scenarios schema > docs/scenario.schema.json"
VALIDATOR = Draft202012Validator(schema())
GOOD: dict[str, Any] = {
    "name": "slow",
    "duration": "10s",
    "faults": [{"network.delay": {"delay": "100ms", "ports": [80, "8000-8099"]}}],
    "steady_state": [{"http": {"url": "http://127.0.0.1/", "name": "web"}}],
    "abort_when": ["error_rate > 50%", "web.p95 > 800ms for 10s", "memory.available < 5%"],
    "expect": ["web.availability > 95%", "queue.value != 0"],
}


def test_it_is_a_schema_and_the_file_is_fresh() -> None:
    Draft202012Validator.check_schema(schema())
    assert json.loads(PAGE.read_text("utf-8")) == schema(), f"write it anew: {WRITE}"


@pytest.mark.parametrize("name", sorted(library()))
def test_every_scenario_of_the_library_is_valid(name: str) -> None:
    data, _ = document.load(library()[name].read_text("utf-8"), name)
    assert not [error.message for error in VALIDATOR.iter_errors(data)]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"faults": ["process.pause"]},
        {"faults": [{"process.pause": None}]},
        {"faults": [{"network.delay": {"delay": "${delay}", "jitter": 0, "of": "${of}", "target": "pid:5"}}]},
        {"faults": [{"network.loss": {"percent": 20, "ports": ["${port}"], "cidrs": "${cidrs}"}}]},
        {"abort_when": ["${limit}", "availability<95 %", "web.max >= ${slowest} for 2s"]},
        {"duration": "${length}", "seed": None, "parameters": {"x": [1, {"y": 2}]}},
    ],
)
def test_what_may_be_written_is_valid(change: dict[str, Any]) -> None:
    assert not [error.message for error in VALIDATOR.iter_errors(GOOD | change)]


@pytest.mark.parametrize(
    "change",
    [
        {"fault": []},
        {"faults": []},
        {"faults": ["network.delay"]},
        {"faults": ["process.paus"]},
        {"faults": [{"network.delay": {"delay": "100"}}]},
        {"faults": [{"network.delay": {"delay": "100ms", "dely": "1s"}}]},
        {"faults": [{"network.delay": {"delay": "100ms", "mechanism": "magic"}}]},
        {"faults": [{"network.delay": {"delay": "100ms"}, "process.pause": {}}]},
        {"faults": [{"network.loss": {"percent": 120}}]},
        {"faults": [{"network.loss": {"percent": "20s"}}]},
        {"steady_state": [{"http": {"url": "ftp://127.0.0.1/"}}]},
        {"steady_state": ["http"]},
        {"abort_when": ["luck > 50%"]},
        {"abort_when": ["error_rate over 50%"]},
        {"duration": 10},
        {"blast_radius": "galaxy"},
    ],
)
def test_a_mistake_is_not(change: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(GOOD | change))
