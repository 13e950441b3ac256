"""The workflow and the action are what GitHub takes, and no input gets into the text of a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTION = ROOT / ".github/actions/run/action.yml"


@pytest.mark.parametrize(
    ("schema", "path"),
    [*(("github-workflows", path) for path in WORKFLOWS), ("github-actions", ACTION)],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_it_is_valid(schema: str, path: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", f"--builtin-schema=vendor.{schema}", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _steps() -> list[dict[str, Any]]:
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values()]
    return [step for job in jobs for step in job["steps"]] + _load()["runs"]["steps"]


def _load() -> dict[str, Any]:
    return dict(yaml.safe_load(ACTION.read_text("utf-8")))


def test_nothing_is_put_into_the_text_of_a_command() -> None:
    commands = [step["run"] for step in _steps() if "run" in step]
    assert len(commands) > 5
    assert not [command for command in commands if "${{" in command]


def test_every_input_is_handed_on_and_documented() -> None:
    action, page = _load(), (ROOT / "docs/ci.md").read_text("utf-8")
    (env,) = (step["env"] for step in action["runs"]["steps"] if step.get("id") == "run")
    assert set(env.values()) == {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    for name in (*action["inputs"], *action["outputs"]):
        assert f"| `{name}` |" in page, name


def test_a_workflow_asks_for_no_more_than_it_needs() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text("utf-8"))["permissions"] == {"contents": "read"}
