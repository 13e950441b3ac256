"""What reports make of journals, in every form."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import junitparser
import pytest
from click.testing import CliRunner
from told import LIMIT, cut, plan, stats, tape, told

from chaosd.cli.main import cli
from chaosd.direct import single
from chaosd.document import scalar
from chaosd.errors import ChaosdError
from chaosd.plan import _fields
from chaosd.report import build, compare, store
from chaosd.report.fold import View
from chaosd.report.html import POINTS
from chaosd.report.render import FORMS, Form, Skipped, render
from chaosd.report.series import thin
from chaosd.scenario import library, load

ROOT = Path(__file__).parents[2]
NASTY = "</script><script>alert(1)</script>`*|&amp; \x07 ]]>"


def _series(view: View) -> Any:
    return build.run(view).series


def test_samples_become_columns_with_the_moment_of_the_fault_at_0() -> None:
    series = _series(told())
    assert series.at[:6] == [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0]
    assert len(series.at) == len(series.checks["api"]["p95"]) == 28
    assert series.checks["api"]["p50"][3:5] == [0.002, 0.2]


def test_counts_become_rates_and_end_with_the_fault() -> None:
    rates = _series(told()).faults["network.delay on container:api"]
    assert rates["matched"][4:6] == [20.0, 20.0], "ten in each half second"
    assert rates["injected"][4:6] == [16.0, 20.0], "two of the first ten were spared"
    assert rates["matched"][:4] == rates["matched"][-4:] == [None] * 4


def test_two_faults_of_one_kind_on_one_target_are_counted_together() -> None:
    made = tape()
    for record in made.records:
        if record["type"] == "sample":
            record["evidence"] *= 2
    view = View()
    for record in made.records:
        view.add(record)
    assert _series(view).faults["network.delay on container:api"]["matched"][5] == 40.0


def test_a_strength_that_changes_is_kept_and_one_that_is_only_there_is_not() -> None:
    def with_levels(*levels: float) -> Any:
        made, view = tape(), View()
        for i, record in enumerate(r for r in made.records if r["type"] == "sample"):
            record["levels"] = [levels[i % len(levels)]]
        for record in made.records:
            view.add(record)
        return _series(view).levels

    assert with_levels(0.0, 1.0) == {}
    assert with_levels(0.25, 1.0)["network.delay"][:3] == [0.25, 1.0, 0.25]


def test_a_long_series_is_thinned_and_keeps_its_worst() -> None:
    view = told()
    worst = _series(view)
    worst.checks["api"]["p95"][9] = 7.0
    worst.checks["api"]["availability"][9] = 0.25
    thinned = thin(worst, 10)
    assert len(thinned.at) == 10
    assert max(thinned.checks["api"]["p95"]) == 7.0
    assert min(thinned.checks["api"]["availability"]) == 0.25
    assert thin(worst, 100) is worst


def test_half_an_hour_is_a_page_of_sane_size_in_sane_time() -> None:
    view = told(lasted=1800, duration=1800.0)
    assert len(view.series) > 3600
    began = time.monotonic()
    page = render([view], "html")
    assert time.monotonic() - began < 5
    assert len(page) < 200_000
    assert len(_data(page)["series"]["at"]) <= POINTS


def _data(page: str) -> Any:
    found = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


class _Seen(HTMLParser):
    """The tags of a page, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _nasty() -> View:
    fault = plan()["faults"][0] | {
        "effect": [NASTY],
        "target": NASTY,
        "fields": {"x": NASTY},
        "edits": [NASTY],
    }
    checks = {NASTY: NASTY}
    view = told(
        name=NASTY, reason=NASTY, verdict="failed", description=NASTY, faults=[fault], steady_state=checks
    )
    view.stats = {when: {NASTY: stats() | {"failure": NASTY}} for when in view.stats}
    view.hits[0] |= {"comm": NASTY, "detail": NASTY}
    view.evidence[0] |= {"skipped": {NASTY: 3}}
    return view


def test_nothing_that_others_chose_is_markup_in_a_page() -> None:
    calm, nasty = (_Seen(render([view], "html")) for view in (told(verdict="failed", reason="x"), _nasty()))
    scripts = [tag for tag, _ in nasty.tags].count("script")
    assert scripts == [tag for tag, _ in calm.tags].count("script") == 3
    assert nasty.text.count("alert(1)") > 8
    assert not [tag for tag, attributes in nasty.tags if {"src", "href"} & attributes.keys()]
    title = render([told()], "html", title=NASTY, skipped=[Skipped(NASTY, NASTY)])
    assert [tag for tag, _ in _Seen(title).tags].count("script") == 3


def test_a_page_loads_nothing_and_may_not() -> None:
    page = render([told(), told(run="bb22cc")], "html")
    links = [a["href"] for tag, a in _Seen(page).tags if tag == "a"]
    assert links == ["#run-1-aa11bb", "#run-2-bb22cc"]
    (policy,) = (
        a["content"] for _, a in _Seen(page).tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy
    assert "url(" not in page


def test_one_run_says_all_that_is_to_be_said() -> None:
    page = " ".join(_Seen(render([told()], "html")).text.split())
    for words in (
        "one round trip: 200ms longer",
        "p50 2.0 ms to 200.0 ms (+198.0 ms)",
        "2 probability",
        "the new",
        "host restored: 1 edit put back in 100.0 ms",
        LIMIT,
        "chaosd run network-latency --target container:api --set 'url=http://127.0.0.1/a b' --duration 10s",
    ):
        assert words.lower() in page.lower(), words


def test_several_runs_are_a_summary_and_each_of_them() -> None:
    views = [told(), told(run="bb22cc", verdict="inconclusive", reason="hit nothing")]
    page = _Seen(render(views, "html", title="Nightly", skipped=[Skipped("disk-slow", "no io controller")]))
    words = " ".join(page.text.split())
    assert "1 passed · 1 inconclusive · 1 skipped" in words
    assert "1 of 2 runs scored" in words
    assert "no io controller" in words
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert len([a for tag, a in page.tags if a.get("class") == "run card"]) == 2


@pytest.mark.parametrize("form", FORMS)
def test_every_form_takes_every_kind_of_run(form: Form) -> None:
    began = cut(lambda record: record.get("phase") == "baseline")
    halfway = cut(lambda record: record["type"] == "stats" and record["when"] == "during")
    bare = told(steady_state={}, abort_when=["weather > 3"], faults=[])
    bare.stats, bare.evidence, bare.checks = {}, [], {}
    old = told()
    for key in ("category", "description", "parameters"):
        del old.plan[key]
    del old.plan["faults"][0]["fields"]
    for view in (began, halfway, bare, old, _nasty()):
        assert view.run in render([view], form)
    assert render([], form, title="nothing", skipped=[Skipped("a", "b")])


def test_a_journal_without_an_end_says_so() -> None:
    made = build.run(cut(lambda record: record["type"] == "restored"))
    assert made.verdict == "unfinished"
    assert "phase revert" in made.reason
    assert made.phases[-1].name == "revert"


def _cases(text: str) -> list[junitparser.TestCase]:
    return [case for suite in junitparser.JUnitXml.fromstring(text.encode()) for case in suite]


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        ("failed", junitparser.Failure),
        ("aborted", junitparser.Failure),
        ("target-lost", junitparser.Failure),
        ("inconclusive", junitparser.Failure),
        ("unsupported", junitparser.Skipped),
        ("interrupted", junitparser.Error),
        ("not-restored", junitparser.Error),
        ("killed", junitparser.Error),
    ],
)
def test_junit_knows_what_failed_what_was_skipped_and_what_went_wrong(verdict: str, kind: type) -> None:
    (case,) = _cases(render([told(verdict=verdict, reason="so it was")], "junit"))
    (result,) = case.result
    assert isinstance(result, kind)
    assert result.message == f"{verdict}: so it was"


def test_junit_counts_its_cases_and_has_figures() -> None:
    views = [told(), told(verdict="failed", reason="x"), told(verdict="killed", reason="y")]
    text = render(views, "junit", title="Nightly", skipped=[Skipped("disk-slow", "no io controller")])
    whole = junitparser.JUnitXml.fromstring(text.encode())
    assert (whole.name, whole.tests, whole.failures, whole.errors) == ("Nightly", 4, 1, 1)
    first, *_, last = whole
    (case,) = first
    assert case.is_passed
    assert (case.classname, case.time) == ("chaosd.network", 14.0)
    properties = {p.name: p.value for p in first.properties()}
    assert properties["api.during.p50"] == "0.2"
    assert properties["hits"] == "198"
    assert float(properties["score"]) == pytest.approx(99.975)
    assert (last.name, last.skipped) == ("disk-slow", 1)


JUNIT_10: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "skipped", "timestamp"},
        {"properties", "testcase"},
    ),
    "testcase": ({"name", "time", "classname"}, {"skipped", "error", "failure", "system-out"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
"""Attributes and children that junit-10.xsd of Jenkins' xUnit plugin allows, as far as they are used here."""


def test_junit_has_nothing_that_a_strict_reader_does_not_know() -> None:
    views = [told(verdict=verdict, reason="x") for verdict in ("passed", "failed", "killed", "unsupported")]
    for element in ET.fromstring(render(views, "junit", skipped=[Skipped("a", "b")])).iter():
        attributes, children = JUNIT_10[element.tag]
        assert set(element.keys()) <= attributes, element.tag
        assert {child.tag for child in element} <= children


def test_junit_is_xml_whatever_words_it_gets() -> None:
    (case,) = _cases(render([_nasty()], "junit"))
    assert case.name.startswith("</script><script>alert(1)")
    assert "\x07" not in case.name


def test_markdown_is_short_and_has_no_markup_of_others() -> None:
    text = render([_nasty()], "markdown")
    assert "<" not in re.sub(r"(`+) .*? \1", "", text), "outside of code"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows[:3]}) == 1, (
        "a | in a name is no new cell"
    )
    views = [told(run=f"{i:06x}") for i in range(30)]
    assert len(render(views, "markdown")) < 8_000


def test_json_is_what_the_schema_says_and_the_schema_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/report_schema.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    schema = json.loads((ROOT / "docs/report.schema.json").read_text("utf-8"))
    run = json.loads(render([told()], "json"))["runs"][0]
    assert run.keys() == schema["$defs"]["Run"]["properties"].keys()
    assert set(schema["$defs"]["Run"]["required"]) <= run.keys()


def test_two_runs_side_by_side() -> None:
    made = compare.compare(told(run="bb22cc", during=stats(0.4, ok=15), recovered=0.21), told())
    rows = {(row.about, row.figure): row for row in made.rows}
    slower = rows["api during", "p50"]
    assert (slower.other, slower.run, slower.better) == (0.2, 0.4, False)
    assert slower.shown == ("200.0 ms", "400.0 ms", "+200.0 ms")
    assert rows["api during", "availability"].better is False
    assert rows["api before", "p50"].better is None
    assert rows["", "recovery"].better is None, "a twentieth more is how runs differ anyway"
    text = compare.render(told(run="bb22cc"), told(name=NASTY), "html")
    assert [tag for tag, _ in _Seen(text).tags].count("script") == 3
    assert len(_data(text)["series"]["at"]) == 28


SEVERAL = [
    plan()["faults"][0] | {"target": f"container:api-{n}", "word": "container:service=api"} for n in (1, 2)
]

ONE_PORT = [plan()["faults"][0] | {"fields": {"delay": "200ms", "ports": "[1]"}}]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (
            {"name": "network.delay"},
            "chaosd inject network.delay delay=200ms 'ports=[80, 443]' --target container:api",
        ),
        (
            {"name": "exec sleep"},
            "chaosd exec --fault 'network.delay delay=200ms ports=[80, 443]'",
        ),
        (
            {"name": "mine; rm", "parameters": {"on": True, "ports": [1, 2], "name": "x"}},
            "chaosd run FILE --target container:api --set on=true --set 'ports=[1,2]' --set name=x",
        ),
        (
            {"name": "mine", "parameters": {}, "on_restart": "follow"},
            "chaosd run FILE --target container:api --on-restart follow",
        ),
        (
            {"name": "network.delay", "on_restart": "follow", "faults": ONE_PORT},
            "chaosd inject network.delay delay=200ms 'ports=[1]' --target container:api --on-restart follow",
        ),
        (
            {"name": "mine", "parameters": {}, "faults": SEVERAL},
            "chaosd run FILE --target container:service=api",
        ),
        (
            {"name": "network.delay", "faults": SEVERAL},
            "chaosd inject network.delay delay=200ms 'ports=[80, 443]' --target container:service=api",
        ),
    ],
)
def test_the_command_does_it_again(words: dict[str, Any], command: str) -> None:
    tail = " -- sleep ..." if words["name"].startswith("exec") else ""
    assert build.run(told(**words)).command == f"{command} --duration 10s --seed 7{tail}"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "state/runs"
    folder.mkdir(parents=True)
    for i, run in enumerate(("aa11bb", "aa22cc", "dd33ee")):
        text = "".join(json.dumps(record) + "\n" for record in tape(run=run, name=f"s{i}").records)
        (folder / f"{run}.jsonl").write_text(text, "utf-8")
        path = folder / f"{run}.jsonl"
        path.touch()
        os.utime(path, (1000 + i, 1000 + i))
    return folder


def test_a_run_is_found_by_its_id_how_that_begins_its_file_or_as_the_newest(runs: Path) -> None:
    assert store.find(None).stem == "dd33ee"
    assert store.find("aa2").stem == "aa22cc"
    assert store.load(store.find(str(runs / "aa11bb.jsonl"))).run == "aa11bb"
    for word, says in (("aa", "more than one run"), ("ff", "no run 'ff'")):
        with pytest.raises(ChaosdError, match=says):
            store.find(word)


@pytest.mark.parametrize(
    "content", [b"", b"root:x:0:0\n", b'{"type": "run"}\n', b"[1]\n", b'{"a": 1}\n', b"\xff\x00"]
)
def test_what_is_no_journal_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ChaosdError, match="is not the journal of a run"):
        store.load(tmp_path / "x.jsonl")
    with pytest.raises(ChaosdError, match="No such file"):
        store.load(tmp_path / "y.jsonl")


def test_history_is_the_newest_first_and_can_be_narrowed(runs: Path) -> None:
    (runs / "broken.jsonl").write_text("{", "utf-8")
    (runs / ".part.jsonl").write_text("{", "utf-8")
    told_of = json.loads(CliRunner().invoke(cli, ["history", "--json"]).stdout)
    assert [row["run"] for row in told_of] == ["dd33ee", "aa22cc", "aa11bb"]
    assert told_of[0] | {"hits": 198, "verdict": "passed", "targets": ["container:api"]} == told_of[0]
    words = ["history", "--scenario", "s1", "--limit", "1", "--json"]
    assert [row["run"] for row in json.loads(CliRunner().invoke(cli, words).stdout)] == ["aa22cc"]
    assert "dd33ee" in CliRunner().invoke(cli, ["history"]).stdout


def test_what_a_report_is_written_to_says_its_form(runs: Path, tmp_path: Path) -> None:
    for name, begins in (
        ("a.html", "<!DOCTYPE html>"),
        ("a.xml", "<?xml"),
        ("a.md", "## s2"),
        ("a.json", "{"),
    ):
        done = CliRunner().invoke(cli, ["report", "--output", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_text("utf-8").startswith(begins)
    assert "network.delay" in CliRunner().invoke(cli, ["report", "aa11"]).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--output", "/nowhere/a.html"], "cannot write /nowhere/a.html: No such file"),
        (["--output", "a.txt"], "text is for the terminal"),
        (["--against", "aa11bb", "--format", "junit"], "not compared as junit"),
    ],
)
def test_what_cannot_be_written_is_told_in_words(runs: Path, words: list[str], says: str) -> None:
    done = CliRunner().invoke(cli, ["report", *words])
    assert isinstance(done.exception, ChaosdError)
    assert says in done.exception.message


@pytest.mark.parametrize("name", library())
def test_the_fields_in_a_journal_make_the_same_fault_again(name: str) -> None:
    for step in load(name, {}).faults:
        words = {key: scalar(value) for key, value in _fields(step.fault).items()}
        (again,) = single(step.fault.name, words, "pid:2", "1s", 1).faults
        assert again.fault == step.fault


def test_fields_are_written_down_as_users_write_them() -> None:
    (step,) = single("network.loss", {"percent": "5%", "cidrs": ["10.0.0.0/8"]}, "pid:2", "1s", 1).faults
    assert _fields(step.fault) == {"percent": "5%", "cidrs": "[10.0.0.0/8]"}
    (step,) = single("syscall.error", {"syscalls": ["fsync"], "errno": "EIO"}, "pid:2", "1s", 1).faults
    assert _fields(step.fault) == {"syscalls": "[fsync]", "errno": "EIO"}
