"""The monkey on this host: whom it hits, and whom it spares."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import orchestrating
import pytest
from container_engine import engine
from orchestrating import Shell, ended, state_of
from systemd_world import systemd
from world import until

from chaosd.orchestrate.eligible import Containers, Targets, find

CONFIG = """
hours: "00:00-24:00"
days: mon-sun
every: {every}
probability: {probability}
cooldown: {cooldown}
scenarios: [first.yaml]
targets: {{comm: ["chaos-*"]}}
exclude: ["comm:chaos-b"]
seed: 1
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with orchestrating.shell(tmp_path) as made:
        yield made


def config(shell: Shell, every: str = "24h", probability: str = "100%", cooldown: str = "0s") -> str:
    return shell.write("monkey.yaml", CONFIG.format(every=every, probability=probability, cooldown=cooldown))


def test_once_hits_the_eligible_and_spares_the_rest_and_not_twice(shell: Shell) -> None:
    pid = shell.sleeper("chaos-a")
    spared = [shell.sleeper(name) for name in ("chaos-b", "chaos-c", "idle")]
    shell.write("config/spared.d/mine.conf", "comm:chaos-c  # ours\n")
    status, out = shell.run("monkey", config(shell), "--once", "--json")
    decided, done = (json.loads(line) for line in out.splitlines())
    assert status == 0
    assert decided["target"] == done["target"] == f"pid:{pid}"
    assert done["run"]["verdict"] == "passed"
    assert shell.targets() == [f"pid:{pid}"]
    assert [state_of(each) for each in (pid, *spared)] == ["S"] * 4
    assert "dealt with already" in shell.run("monkey", config(shell), "--once")[1]
    assert len(shell.runs()) == 1


def test_all_that_is_opted_out_leaves_nothing_to_do(shell: Shell) -> None:
    shell.sleeper("chaos-b")
    status, out = shell.run("monkey", config(shell), "--once")
    assert (status, "nothing: no eligible target" in out) == (0, True)
    assert not shell.runs()


def test_the_loop_keeps_the_cooldown_and_ends_with_a_signal(shell: Shell) -> None:
    pids = {f"pid:{shell.sleeper(name)}" for name in ("chaos-a", "chaos-d")}
    process = shell.start("monkey", config(shell, every="1s", cooldown="10m"))
    until(lambda: len(shell.runs()) == 2, "no second run", 60)
    assert "another process already does this" in shell.run("monkey", config(shell), "--once")[1]
    process.send_signal(signal.SIGTERM)
    status, out = ended(process)
    assert status == 0
    assert set(shell.targets()) == pids, "each of them once"
    assert out.count("passed") == 2
    process = shell.start("monkey", config(shell, every="1s", cooldown="10m"))
    assert process.stdout is not None
    assert "every eligible target is cooling down" in process.stdout.readline(), "also after a restart"
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 0


def test_a_signal_ends_its_run_in_order(shell: Shell) -> None:
    pid = shell.sleeper("chaos-a")
    text = CONFIG.format(every="24h", probability="100%", cooldown="0s").replace("first", "long")
    process = shell.start("monkey", shell.write("monkey.yaml", text), "--once")
    shell.wait_fault()
    process.send_signal(signal.SIGINT)
    status, out = ended(process)
    assert (status, "interrupted" in out) == (6, True)
    assert state_of(pid) == "S"


def test_a_dry_run_tells_what_is_then_done(shell: Shell) -> None:
    shell.sleeper("chaos-a")
    shell.sleeper("chaos-d")
    words = ("monkey", config(shell, every="2s", probability="60%", cooldown="4s"))
    status, out = shell.run(*words, "--dry-run", "--ticks", "12", "--json")
    told = {tick["tick"]: tick for tick in json.loads(out)["ticks"]}
    assert (status, len(told)) == (0, 12)
    assert not (shell.folder / "state").exists()
    process = shell.start(*words, "--json")
    until(lambda: len(shell.runs()) == 2, "no second run", 90)
    process.send_signal(signal.SIGINT)
    done = [json.loads(line) for line in ended(process)[1].splitlines()]
    assert process.returncode in (0, 6)
    # what cools down depends on where the loop begins; what is drawn does not
    drawn = {number: tick["why_not"] != "not drawn" for number, tick in told.items()}
    assert done[0]["tick"] in told
    assert all(
        drawn[each["tick"]] is (each["why_not"] != "not drawn") for each in done if each["tick"] in told
    )
    assert {each["target"] for each in done} - {""} <= {tick["target"] for tick in told.values()}


FIND = """
import json, sys, msgspec
from chaosd.orchestrate.eligible import Targets, find
found, problems = find(msgspec.json.decode(sys.argv[1], type=Targets), sys.argv[2:])
print(json.dumps({"words": [each.word for each in found], "problems": problems}))
"""
SERVICE = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep 600\n"


def test_units_are_eligible_by_pattern_and_spared_by_another() -> None:
    names = ("web-a.service", "web-b.service", "db.service")
    with systemd(dict.fromkeys(names, SERVICE)) as world:
        done = world.call(sys.executable, "-c", FIND, json.dumps({"units": ["web-*.service"]}), "unit:web-b*")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"words": ["unit:web-a.service"], "problems": []}


def test_containers_are_eligible_by_label_and_spared_by_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine() as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.url)
        docker.run("yes", "sleep", "600", labels={"chaos": "yes"})
        docker.run("no", "sleep", "600", labels={"chaos": "no"})
        docker.run("other", "sleep", "600", labels={"chaos": "maybe"})
        docker.run("plain", "sleep", "600")

        def words(exclude: tuple[str, ...] = (), **wanted: object) -> list[str]:
            found, problems = find(Targets(containers=Containers(**wanted)), exclude)  # type: ignore[arg-type]
            assert not problems
            return [each.word for each in found]

        assert words(label="chaos=yes") == ["container:yes"]
        assert words(label="chaos") == ["container:other", "container:yes"]
        assert words(names=["*"]) == ["container:other", "container:plain", "container:yes"]
        assert words(("container:o*",), label="chaos") == ["container:yes"]
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    found, problems = find(Targets(containers=Containers(label="chaos")), ())
    assert not found
    assert "does not answer" in problems[0]
