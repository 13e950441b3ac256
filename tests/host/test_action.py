"""The steps of the GitHub action, run as GitHub runs them, on real faults."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import embedding
import pytest
import yaml
from embedding import Program

FOLDER = embedding.ROOT / ".github/actions/run"
SCENARIO = "name: {name}\nduration: 300ms\nfaults: [{fault}]\n"
MISS = "network.loss: {percent: 100%, ports: [1]}"


class Job:
    """A job that uses the action."""

    def __init__(self, here: Program) -> None:
        self.here = here
        self.summary, self._output = here.folder / "summary", here.folder / "output"

    def run(self, scenario: str, **inputs: str) -> tuple[int, dict[str, str], str]:
        """The exit status, the outputs, and all that was said."""
        action = yaml.safe_load((FOLDER / "action.yml").read_text("utf-8"))
        given = {name: field.get("default", "") for name, field in action["inputs"].items()}
        given |= {"scenario": scenario} | {name.replace("_", "-"): value for name, value in inputs.items()}
        self._output.write_text("", "ascii")
        self.summary.write_text("", "ascii")
        said, status = "", 0
        for step in action["runs"]["steps"]:
            env = {key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], value)
                   for key, value in step.get("env", {}).items()}  # fmt: skip
            done = self._step(step["run"], env)
            said, status = said + done.stdout + done.stderr, done.returncode
            if status:
                break
        outputs = dict(line.split("=", 1) for line in self._output.read_text("utf-8").splitlines())
        return status, outputs, said

    def _step(self, text: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        own = {
            "GITHUB_ACTION_PATH": FOLDER,
            "GITHUB_OUTPUT": self._output,
            "GITHUB_STEP_SUMMARY": self.summary,
        }
        script = self.here.folder / "step.sh"
        script.write_text(text, "utf-8")
        # as docs.github.com has it for ``shell: bash``
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.run(
            words, env=self.here.env | {key: str(value) for key, value in own.items()} | env,
            cwd=self.here.folder, capture_output=True, text=True, check=False, timeout=110,
        )  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with embedding.program(tmp_path) as here:
        (tmp_path / "pause.yaml").write_text(SCENARIO.format(name="pause", fault="process.pause"), "utf-8")
        (tmp_path / "miss.yaml").write_text(SCENARIO.format(name="miss", fault="{" + MISS + "}"), "utf-8")
        yield Job(here)
        here.assert_restored()


def test_a_run_that_passes(job: Job) -> None:
    status, outputs, said = job.run("pause.yaml", target=job.here.target, duration="200ms", seed="7")
    assert (status, outputs) == (0, {"verdict": "passed", "status": "0"}), said
    assert "| pause | ✅ passed |" in job.summary.read_text("utf-8")
    report = job.here.folder / "chaosd-report"
    assert {path.name for path in report.iterdir()} == {
        "result.json",
        "report.html",
        "junit.xml",
        "summary.md",
    }


def test_the_verdicts_that_fail_are_chosen(job: Job) -> None:
    status, outputs, _ = job.run("miss.yaml", target=job.here.target)
    assert (status, outputs["verdict"]) == (1, "inconclusive")
    status, outputs, _ = job.run("miss.yaml", target=job.here.target, fail_on="failed,aborted")
    assert (status, outputs) == (0, {"verdict": "inconclusive", "status": "4"})
    assert "| miss | ⚠️ inconclusive |" in job.summary.read_text("utf-8")


def test_what_is_refused_is_in_the_summary(job: Job) -> None:
    status, outputs, said = job.run("nowhere.yaml", target=job.here.target)
    assert (status, outputs["verdict"]) == (1, "refused")
    assert "::error::chaosd: refused" in said
    assert job.summary.read_text("utf-8") == "chaosd: **refused**\n\n    chaosd: no such file: nowhere.yaml\n"


@pytest.mark.parametrize("name", ["scenario", "target", "duration", "set", "seed", "report", "fail_on"])
def test_no_input_becomes_a_command(job: Job, name: str) -> None:
    evil = '"; touch evil; $(touch evil) `touch evil` ${IFS} * --json'
    inputs = {"scenario": "pause.yaml", "target": job.here.target} | {name: evil}
    status, outputs, said = job.run(inputs.pop("scenario"), **inputs)
    assert not (job.here.folder / "evil").exists()
    assert (status, outputs["verdict"]) == (
        (0, "passed") if name in ("report", "fail_on") else (1, "refused")
    ), said


def test_parameters_come_one_a_line(job: Job) -> None:
    text = SCENARIO.format(name="set", fault="{process.pause: {tree: '${tree}'}}")
    text += "parameters: {tree: true, other: x}\n"
    (job.here.folder / "set.yaml").write_text(text, "utf-8")
    status, outputs, said = job.run("set.yaml", target=job.here.target, set="tree=false\n\n  \nother=a b\n")
    assert (status, outputs["verdict"]) == (0, "passed"), said
    result = (job.here.folder / "chaosd-report/result.json").read_text("utf-8")
    assert '"other": "a b"' in result
    assert os.geteuid() == 0
