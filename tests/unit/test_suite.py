"""Suites as they are written and chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from told import stats
from told import told as told_of

from chaosd.cli import render
from chaosd.errors import ChaosdError, Exit
from chaosd.orchestrate import apart
from chaosd.orchestrate.suite import choose, parse, scenarios, settled, told, worst
from chaosd.report.fold import View
from chaosd.scenario import library

TEXT = """
name: before the release
pause: 10s
on_failure: stop
scenarios:
  - cpu-throttling
  - network-latency: {target: "unit:api", duration: 20s, seed: 4, set: {delay: 1s}}
"""


def test_a_suite_file_says_what_is_set_for_each_scenario() -> None:
    suite = parse(TEXT, "suite.yaml", Path())
    assert (suite.name, suite.pause, suite.on_failure) == ("before the release", 10, "stop")
    second = suite.entries[1].load()
    assert (second.target, second.duration, second.seed, second.parameters["delay"]) == (
        "unit:api",
        20,
        4,
        "1s",
    )


def test_what_the_command_line_says_wins_and_reaches_those_that_have_it() -> None:
    suite = parse(TEXT, "suite.yaml", Path())
    chosen = scenarios(settled(suite, {"target": "pid:5"}, {"delay": "3s", "percent": "7%"}))
    assert [each.target for each in chosen] == ["pid:5", "pid:5"]
    assert chosen[0].parameters["percent"] == "7%"
    assert "delay" not in chosen[0].parameters
    assert chosen[1].parameters["delay"] == "3s"


def test_a_setting_that_fits_none_and_a_missing_target_are_refused() -> None:
    suite = parse(TEXT, "suite.yaml", Path())
    with pytest.raises(ChaosdError, match="no chosen scenario has a parameter 'dleay'") as refused:
        settled(suite, {}, {"dleay": "1s"})
    assert refused.value.hint == "did you mean delay?"
    with pytest.raises(ChaosdError, match="cpu-throttling has no target"):
        scenarios(suite)


def test_a_suite_is_the_same_in_a_process_that_cannot_see_its_files(tmp_path: Path) -> None:
    (tmp_path / "probing.yaml").write_text(
        "name: probing\nduration: 1s\ntarget: host\nparameters: {p: 1%}\n"
        "faults: [{probe.custom: {source: own.c, probability: '${p}'}}]\n", "utf-8",
    )  # fmt: skip
    text = TEXT + "  - probing.yaml: {duration: 1500ms, seed: 0}\n"
    suite = settled(parse(text, "suite.yaml", tmp_path), {"target": "pid:5"}, {"p": "3%"})
    again = parse(*told(suite)[:1], "suite", Path("/nonexistent"), told(suite)[1])
    assert scenarios(again) == scenarios(suite)
    assert (again.name, again.pause, again.on_failure) == (suite.name, suite.pause, suite.on_failure)
    last = scenarios(again)[-1]
    assert (last.duration, last.seed, last.parameters["p"]) == (1.5, 0, "3%")
    assert last.faults[0].fault.executes == str(tmp_path / "own.c")


def test_categories_and_all_are_the_library_in_order() -> None:
    every = [each.scenario for each in choose("all").entries]
    assert every == [name for name in library() if name != "clock-skew"], "that one is for chaosd exec alone"
    network = [each.scenario for each in choose("network").entries]
    assert network == [name for name, path in library().items() if path.parent.name == "network"]
    with pytest.raises(ChaosdError, match="no category 'netwrk'") as refused:
        choose("netwrk")
    assert refused.value.hint == "did you mean network?"
    with pytest.raises(ChaosdError, match=r"no such file: mine\.yaml"):
        choose("mine.yaml")


def test_every_mistake_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "name: x\npause: 5\non_failure: maybe\nscenarios:\n  - cpu-throtling\n"
        "  - cpu-throttling: {sett: {}}\n  - cpu-throttling: {set: {percnt: 1%}}\n  - 5\nscenaros: []\n",
        "utf-8",
    )
    with pytest.raises(ChaosdError) as refused:
        choose(str(tmp_path / "suite.yaml"))
    lines = str(refused.value).splitlines()
    for number, says in (
        (2, "has no unit"),
        (3, "on_failure"),
        (5, "did you mean cpu-throttling?"),
        (6, "did you mean set?"),
        (7, "did you mean percent?"),
        (8, "must be one scenario"),
        (9, "did you mean scenarios?"),
    ):
        assert any(f"suite.yaml:{number}: " in line and says in line for line in lines), (number, lines)


@pytest.mark.parametrize(
    ("verdicts", "skipped", "status"),
    [
        ([], False, Exit.OK),
        ([], True, Exit.UNSUPPORTED),
        (["passed"], True, Exit.OK),
        (["passed", "inconclusive"], False, Exit.INCONCLUSIVE),
        (["inconclusive", "refused"], False, Exit.REFUSED),
        (["refused", "aborted"], False, Exit.ABORTED),
        (["aborted", "target-lost"], False, Exit.FAILED),
        (["passed", "killed"], False, Exit.FAILED),
        (["failed", "interrupted"], False, Exit.INTERRUPTED),
        (["interrupted", "not-restored", "passed"], False, Exit.NOT_RESTORED),
    ],
)
def test_the_exit_status_is_the_worst(verdicts: list[str], skipped: bool, status: Exit) -> None:
    """The order that the help and docs/suites.md give."""
    assert worst({apart.status(View(verdict=verdict)) for verdict in verdicts}, skipped=skipped) is status


def test_the_table_shows_the_check_that_fared_worst_of_those_that_were_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = told_of(during=stats(0.2, ok=15))
    view.stats["during"]["silent"] = stats(None, ok=0, count=0)
    never = told_of(name="unmeasured", during=stats(None, ok=0, count=0))
    render.suite([view, never], [("other", "no such kernel")])
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert "75.0%" in next(words for words in shown if words[0] == "network-latency")
    assert next(words for words in shown if words[0] == "unmeasured").count("-") == 4
    assert shown[-1] == ["2", "of", "2", "runs", "passed,", "1", "scenarios", "skipped"]
