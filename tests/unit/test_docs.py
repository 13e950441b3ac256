"""What the documentation says is so: links lead somewhere, commands can be given, examples run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from chaosd import document
from chaosd.checks.base import registry as check_registry
from chaosd.checks.threshold import figures
from chaosd.cli.main import cli
from chaosd.direct import single
from chaosd.errors import ChaosdError, Exit
from chaosd.faults.base import registry
from chaosd.kernel.edit import Edit, kinds
from chaosd.orchestrate import monkey, schedule, suite
from chaosd.scenario import library, parse

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("probes/*.md"))
    if not path.name.startswith(".")
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(_text(path)) if kind == language]


def _prose(path: Path) -> str:
    return _FENCE.sub("", _text(path))


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", _prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def _links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for link in _LINK.findall(_prose(page)):
            if "://" not in link and not link.startswith("mailto:"):
                yield page, link


def _commands() -> Iterator[tuple[Path, list[str]]]:
    """Every chaosd command of a console block; lines that a backslash joins are one."""
    for page in PAGES:
        for block in _blocks(page, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                prompt, _, command = line.partition(" ")
                if prompt in ("$", "#") and "chaosd" in (words := shlex.split(command, comments=True)):
                    yield page, words[words.index("chaosd") + 1 :]


def _spelled() -> Iterator[tuple[Path, list[str]]]:
    """Every chaosd command within the text; what is there to be filled in stays as it is."""
    for page in PAGES:
        for command in re.findall(r"`(?:sudo )?chaosd ([^`]+)`", _prose(page)):
            yield page, shlex.split(command)


def _said(cases: Iterator[tuple[Path, list[str]]]) -> list[object]:
    return [pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}") for page, words in cases]


def test_there_is_something_to_test() -> None:
    assert len(PAGES) > 15
    assert len(list(_links())) > 30
    assert len(list(_commands())) > 20


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for page, link in _links():
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def _parse(words: list[str]) -> tuple[click.Command, click.Context]:
    """Subcommand and options as click reads them; raises ``click.UsageError``."""
    name, *rest = words
    command = _named(name)
    assert command is not None, f"there is no command {name}"
    if isinstance(command, click.Group):
        name, *rest = rest or ["list"]
        command = command.commands[name]
    return command, command.make_context(name, rest)


@pytest.mark.parametrize("words", _said(_commands()))
def test_every_command_shown_can_be_given(words: list[str]) -> None:
    """It parses; a fault it names takes the fields, a scenario the parameters."""
    if words == ["--version"]:
        assert CliRunner().invoke(cli, words).exit_code == 0
        return
    _, context = _parse(words)
    values = context.params
    if words[0] == "inject":
        single(values["fault"], values["fields"], values["target"], values["duration"], values["seed"])
    if words[0] in ("run", "plan") and not values["scenario"].endswith(".yaml"):
        given = {key: values[key] for key in ("target", "duration") if values[key]}
        parse(_text(library()[values["scenario"]]), values["scenario"], values["settings"] | given)


@pytest.mark.parametrize("words", _said(_spelled()))
def test_every_command_in_the_text_exists(words: list[str]) -> None:
    known = {name: command for name in cli.list_commands(click.Context(cli)) if (command := _named(name))}
    word = words[0].split("|")[0]
    assert word in known or word.startswith("-")
    options = {opt for p in getattr(known.get(word), "params", ()) for opt in p.opts}
    ours = words[1 : words.index("--")] if "--" in words else words[1:]  # what follows is the command's own
    assert {word for word in ours if word.startswith("--")} <= options | {"--help", "--json"}


def _named(name: str) -> click.Command | None:
    return cli.get_command(click.Context(cli), name)


def test_every_fault_and_scenario_named_exists() -> None:
    families = {name.partition(".")[0] for name in registry()}
    names = re.compile(rf"`((?:{'|'.join(families)})\.[a-z_]+)`")
    # network.ttl is the example of docs/writing-a-fault.md; edits and figures have names of their own
    known = {*registry(), "network.ttl", *(str(kind.__struct_config__.tag) for kind in kinds()), *figures()}
    unknown = {
        (str(page.relative_to(ROOT)), name)
        for page in PAGES
        for name in names.findall(_prose(page))
        if name not in known and not name.endswith((".py", ".yaml", ".md"))
    }
    assert not unknown


def test_every_file_named_exists() -> None:
    """Paths below a folder of this project, in backquotes."""
    folders = "chaosd|docs|probes|scenarios|systemd|tests|tools"
    example = (
        "chaosd/faults/network_ttl.py",
        "scenarios/network/network-ttl.yaml",
        "tests/host/test_network_ttl.py",
    )
    named = {
        (str(page.relative_to(ROOT)), name)
        for page in PAGES
        for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", _prose(page))
    }
    assert named
    assert not {(page, name) for page, name in named if name not in example and not (ROOT / name).exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_yaml_examples_are_valid(page: Path) -> None:
    for block in _blocks(page, "yaml"):
        data = yaml.safe_load(block)
        if "faults" not in data or "network.ttl" in block:
            continue
        whole = block if "name" in data else f"name: example\nduration: 60s\n{block}"
        assert parse(whole, page.name, {}).faults


def test_the_examples_of_orchestration_are_valid(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    shutil.copy(library()["cpu-throttling"], tmp_path / "ours" / "database-is-slow.yaml")
    (one,), (two,), (three,) = (
        _blocks(ROOT / "docs" / f"{page}.md", "yaml") for page in ("suites", "monkey", "schedule")
    )
    assert len(suite.parse(one, "suites.md", tmp_path).entries) == 3
    assert len(monkey.parse(two, "monkey.md", tmp_path).entries) > 1
    assert schedule.parse(three, "schedule.md", tmp_path / "weekly.yaml").missed == "run-once"


def test_the_tables_of_orchestration_have_every_field() -> None:
    for page, kind in (("suites", suite.Suite), ("monkey", monkey.Config), ("schedule", schedule.Schedule)):
        text = _text(ROOT / f"docs/{page}.md")
        names = set(kind.__struct_fields__) - {"entries", "entry", "name"}
        assert not [name for name in names if f"`{name}`" not in text], page


def test_every_example_of_a_check_is_valid() -> None:
    page = ROOT / "docs/checks.md"
    examples = [block for block in _blocks(page, "yaml") if block.startswith("- ")]
    assert [next(iter(yaml.safe_load(block)[0])) for block in examples] == [*check_registry()]
    faults = "name: x\nduration: 1s\nfaults: [process.pause]\n"
    for block in examples:
        assert len(parse(f"{faults}observe:\n{block}", page.name, {}).observe) == 1


def test_the_scenarios_table_has_every_field() -> None:
    from chaosd.scenario import Scenario

    page = _text(ROOT / "docs/scenarios.md")
    assert not [name for name in Scenario.__struct_fields__ if f"`{name}`" not in page]


def test_every_exit_status_is_explained() -> None:
    for page in ("README.md", "docs/scenarios.md"):
        rows = set(re.findall(r"^\| (\d+) \|", _text(ROOT / page), re.MULTILINE))
        assert rows == {str(int(status)) for status in Exit}, page


def test_every_kind_of_edit_is_in_the_architecture() -> None:
    page = _text(ROOT / "docs/architecture.md")
    ours = [
        kind
        for kind in kinds()  # other tests make some, too
        if kind.__module__.startswith("chaosd.") and kind.apply is not Edit.apply
    ]
    names = [kind.__name__ for kind in ours if not kind.__name__.startswith("_")]
    assert len(names) > 10
    assert not [name for name in names if f"`{name}`" not in page]


@pytest.mark.parametrize("name", ["fault_pages", "check_page"])
def test_the_generated_pages_are_fresh(name: str) -> None:
    tool = str(ROOT / f"tools/{name}.py")
    done = subprocess.run(
        [sys.executable, tool, "--check"], capture_output=True, text=True, check=False, env=_env(ROOT)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _env(*paths: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def test_the_example_of_a_fault_works(tmp_path: Path) -> None:
    """The three blocks of the page, put into files, are a fault, a scenario that knows it, and its test."""
    page = ROOT / "docs/writing-a-fault.md"
    (fault, test), (scenario,) = _blocks(page, "python"), _blocks(page, "yaml")
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults/network_ttl.py").write_text(fault, "utf-8")
    (tmp_path / "network-ttl.yaml").write_text(scenario, "utf-8")
    (tmp_path / "test_network_ttl.py").write_text(test, "utf-8")
    place = f"import chaosd.faults\nchaosd.faults.__path__.append({str(tmp_path / 'faults')!r})\n"
    (tmp_path / "conftest.py").write_text(place, "utf-8")
    env = _env(ROOT, ROOT / "tests/host")
    validate = f"{place}from chaosd.cli.main import main; main()"
    words = ["scenarios", "validate", str(tmp_path / "network-ttl.yaml")]
    done = subprocess.run(
        [sys.executable, "-c", validate, *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "network.ttl" in done.stdout
    if os.geteuid() != 0:
        pytest.skip("network namespaces are for root")
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_what_a_new_user_mistypes_is_answered_in_words() -> None:
    """The examples of the docs with a letter missing."""
    with pytest.raises(ChaosdError, match="did you mean delay"):
        single("network.delay", {"delya": "100ms", "delay": "1s"}, "pid:1", "1s", None)
    with pytest.raises(ChaosdError, match="has no unit"):
        single("network.delay", {"delay": document.scalar("100")}, "pid:1", "1s", None)
