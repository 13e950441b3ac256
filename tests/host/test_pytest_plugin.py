"""The pytest plugin by a pytest of its own, with real faults."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import embedding
import pytest
from embedding import Program

pytest_plugins = ["pytester"]


class Suite:
    """A file of tests that pytest runs; ``TARGET`` in it is a process."""

    def __init__(self, here: Program, pytester: pytest.Pytester) -> None:
        self._here, self._pytester = here, pytester

    def run(self, text: str, *options: str, **outcomes: int) -> str:
        result = self.start(text, *options)
        result.assert_outcomes(**outcomes)
        return result.stdout.str() + result.stderr.str()

    def start(self, text: str, *options: str) -> pytest.RunResult:
        head = f"import os, signal, pytest, chaosd\nTARGET = 'pid:{self._here.pid}'\n"
        self._pytester.makepyfile(head + text)
        return self._pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *options)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Program]:
    with embedding.program(tmp_path) as made:
        yield made
        made.assert_restored()


@pytest.fixture
def tests(here: Program, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    for key, value in here.places.items():
        monkeypatch.setenv(key, value)
    return Suite(here, pytester)


def test_a_test_under_a_fault_passes_with_its_evidence(tests: Suite, tmp_path: Path) -> None:
    out = tests.run(
        """
def test_it(chaos):
    with chaos.inject("process.pause", target=TARGET) as run:
        assert run.live
    assert run.verdict == "passed"
    assert chaos.run({"name": "x", "faults": ["process.pause"], "duration": "100ms"}, target=TARGET).id
    with chaos.running({"name": "y", "faults": ["process.pause"], "duration": "9s"}, target=TARGET):
        pass
""",
        f"--junitxml={tmp_path / 'junit.xml'}",
        passed=1,
    )
    assert out.count("host restored: ") == 3
    assert "run " in (tmp_path / "junit.xml").read_text("utf-8").partition('name="chaosd"')[2]


def test_a_test_that_fails_shows_what_was_hit(tests: Suite) -> None:
    out = tests.run(
        """
def test_it(chaos):
    with chaos.inject("process.pause", target=TARGET):
        raise RuntimeError("the service is slow")
""",
        failed=1,
    )
    assert "the service is slow" in out
    assert "Captured chaosd call" in out
    assert "host restored: " in out


def test_a_fault_that_hit_nothing_fails_its_test(tests: Suite) -> None:
    miss = """
def test_it(chaos):
    fields = {"percent": "100%", "ports": [1]}
    with chaos.inject("network.loss", target=TARGET, **fieldsALLOWED):
        pass
"""
    out = tests.run(miss.replace("ALLOWED", ""), failed=1)
    assert "network.loss on pid:" in out
    assert "hit nothing" in out
    tests.run(miss.replace("ALLOWED", ", allow_miss=True"), passed=1)


def test_what_this_host_cannot_do_is_skipped_or_fails_if_it_is_required(
    tests: Suite, pytester: pytest.Pytester
) -> None:
    text = """
@pytest.fixture
def costly():
    raise RuntimeError("not to be made")

@pytest.mark.chaos("process.pause", "clock.skew")
def test_marked(costly):
    pass

def test_unmarked(chaos):
    fields = {"syscalls": ["read"], "errno": "EIO", "mechanism": "notify"}
    with chaos.inject("syscall.error", target=TARGET, **fields):
        raise RuntimeError("not to be run")
"""
    out = tests.run(text, skipped=2)
    assert "clock.skew: by " in out
    assert "only of a program that it starts itself" in out
    out = tests.run(text, "--chaos-require", failed=1, errors=1)
    assert out.count("required here, yet missing: ") >= 2
    pytester.makeini("[pytest]\nchaos_require = true\n")
    tests.run(text, failed=1, errors=1)


def test_a_fault_that_a_test_leaves_is_lifted_and_told(tests: Suite) -> None:
    out = tests.run(
        """
kept = []

def test_leaves(chaos):
    kept.append(chaos.inject("process.pause", target=TARGET))
    kept[0].__enter__()

def test_next(chaos):
    with chaos.inject("process.pause", target=TARGET):
        pass
""",
        passed=2,
        errors=1,
    )
    assert "was left in force by the test; it is lifted now" in out


def test_a_session_that_is_killed(tests: Suite, here: Program) -> None:
    result = tests.start(
        """
def test_it(chaos):
    with chaos.inject("process.pause", target=TARGET):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert result.ret == -signal.SIGKILL
    here.assert_restored()


def test_a_host_that_is_held_is_waited_for(tests: Suite, here: Program) -> None:
    holder = here.python(
        "import chaosd, os, time\n"
        f"with chaosd.inject('process.pause', target='{here.target}'):\n"
        "    print('live', flush=True)\n"
        "    while not os.path.exists('release'):\n"
        "        time.sleep(0.01)\n"
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    text = """
def test_it(chaos):
    with chaos.inject("process.pause", target=TARGET):
        pass
"""
    out = tests.run(text, "-o", "chaos_wait=0", failed=1)
    assert "another run holds this host" in out
    releasing = threading.Timer(3.0, (here.folder / "release").touch)
    releasing.start()
    tests.run(text, passed=1)
    releasing.join()
    holder.communicate(timeout=60)


def test_the_start_of_pytest_takes_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_it():
    ours = {name for name in sys.modules if name.partition(".")[0] == "chaosd"}
    assert ours == {"chaosd", "chaosd.pytest_plugin", "chaosd.places"}
    assert not {"msgspec", "pyroute2", "click", "yaml"} & sys.modules.keys()
"""
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest").assert_outcomes(
        passed=1
    )


def test_the_examples_of_the_documentation(tests: Suite, pytester: pytest.Pytester) -> None:
    page = (embedding.ROOT / "docs/pytest.md").read_text("utf-8")
    block = page.partition("```python\n")[2].partition("```")[0]
    pytester.makeconftest(
        "import subprocess, pytest\n"
        "@pytest.fixture\n"
        "def service():\n"
        "    with subprocess.Popen(['sleep', '600']) as process:\n"
        "        yield process\n"
        "        process.kill()\n"
    )
    tests.run(block, passed=block.count("def test_"))
