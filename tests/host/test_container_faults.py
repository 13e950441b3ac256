"""Faults that are about containers as such, and words that stand for several, by Docker and by Podman."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import click
import pytest
from container_engine import DOCKER, PODMAN, Engine, engine
from injecting import RUN, injected
from world import until

from chaosd.cli import complete
from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.faults.base import Planning
from chaosd.faults.container_kill import ContainerKill
from chaosd.faults.container_pause import ContainerPause
from chaosd.faults.container_restart import ContainerRestart
from chaosd.kernel.edit import Undo
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.restart import Again, Restart
from chaosd.targets.model import Target
from chaosd.targets.resolve import resolve, resolve_all
from chaosd.units import Duration

pytestmark = pytest.mark.timeout(300)
AT = Planning(RUN, 0, 7, "", 10.0)
LABELS = {"com.docker.compose.project": "shop", "com.docker.compose.service": "api", "tier": "front"}


@pytest.fixture(scope="module", params=[DOCKER, PODMAN], ids=["docker", "podman"])
def running(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(request.param) as found:
        for number in (1, 2):
            found.run(
                f"shop-api-{number}", "sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait", labels=LABELS
            )
        yield found


@pytest.fixture
def container(running: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of two that run."""
    monkeypatch.setenv("DOCKER_HOST", running.url)
    found = running.client.containers.get("shop-api-1")
    found.start()
    return found


def up(container: Any) -> bool:
    container.reload()
    return bool(container.status == "running")


def leader(container: Any) -> int:
    """Its first process; for a moment its engine calls one running that is dead."""
    container.reload()
    return int(container.attrs["State"]["Pid"])


def test_killed_it_is_down_and_started_again_at_the_end(container: Any) -> None:
    """The promise to start it comes before the deed."""
    target = resolve("container:shop-api-1")
    promise, kill = ContainerKill().plan(target, AT)
    assert isinstance(promise, Restart)
    promise.apply()
    kill.apply()
    assert kill.evidence().injected == 1  # type: ignore[union-attr]
    assert not target.processes[0].alive()
    until(lambda: not up(container), "its engine has not noticed")
    assert kill.revert() is Undo.NEVER
    assert promise.revert() is Undo.DONE
    assert up(container)
    assert [
        type(edit) for edit in ContainerKill(restart=False).plan(resolve("container:shop-api-1"), AT)
    ] == [type(kill)]


def test_paused_it_stands_still_and_its_engine_calls_it_running(container: Any) -> None:
    """Every process of it, also one that was put in later; the other container goes on."""
    container.exec_run(["sleep", "3600"], detach=True)
    until(lambda: len(resolve("container:shop-api-1").processes) == 3, "the third process is not seen")
    with injected(ContainerPause(), resolve("container:shop-api-1")):
        assert up(container)
        refused = pytest.raises(ChaosdError, match="is frozen already")
        with refused:
            [*ContainerPause().plan(resolve("container:shop-api-1"), AT)]
    container.exec_run(["true"])


def test_restarted_by_its_engine_it_has_another_first_process(container: Any) -> None:
    """It is asked to end first, and does; the engine answers when it is up again, and nobody waits."""
    target = resolve("container:shop-api-1")
    promise, again = ContainerRestart(grace=Duration(5)).plan(target, AT)
    promise.apply()
    again.apply()
    assert again.present()
    until(lambda: again.evidence().injected == 1, "it was not restarted")  # type: ignore[union-attr]
    until(lambda: not target.processes[0].alive(), "it goes on")
    until(lambda: leader(container) not in (0, target.processes[0].pid), "it is not up again")
    assert resolve("container:shop-api-1").processes[0] != target.processes[0]
    assert again.lost() == ""
    assert (again.revert(), promise.revert()) == (Undo.NEVER, Undo.GONE)


def test_an_engine_that_will_not_restart_it_ends_the_run(container: Any) -> None:
    """What it said is why."""
    edit = Again("container:" + "0" * 64, ProcessRef.of(os.getpid()), 1)
    edit.apply()
    until(edit.lost, "nothing is said")
    assert "there is no container 0000" in edit.lost()
    assert edit.evidence().injected == 0


def test_a_restart_that_may_outlast_the_fault_is_refused(container: Any) -> None:
    """What is asked of an engine cannot be taken back."""
    with pytest.raises(
        ChaosdError, match=r"may take 10s to end, and the fault lasts 10s \(a longer duration"
    ):
        [*ContainerRestart().plan(resolve("container:shop-api-1"), AT)]


def test_what_is_no_container_is_refused(container: Any) -> None:
    """Not even a process of one, which would be named without the rest of it."""
    pid = resolve("container:shop-api-1").processes[0].pid
    for fault in (ContainerKill(), ContainerPause(), ContainerRestart(grace=Duration(1))):
        with pytest.raises(
            UnsupportedError, match=rf"{fault.name} is about containers, and pid:{pid} is none"
        ):
            [*fault.plan(resolve(f"pid:{pid}"), AT)]


def test_a_word_may_stand_for_several(running: Engine, container: Any) -> None:
    """Each has a word of its own, and bears the one that was written."""
    words = ("service=api", "service=shop/api", "project=shop", "label=tier", "label=tier=front")
    for word in (*words, "image=busybox-test", "image=busybox-test:latest"):
        found = resolve_all(f"container:{word}")
        assert [target.spec for target in found] == ["container:shop-api-1", "container:shop-api-2"]
        assert {target.word for target in found} == {f"container:{word}"}
        assert [target.processes[0] for target in found] == [
            resolve(target.spec).processes[0] for target in found
        ]
    with pytest.raises(ChaosdError, match=r"stands for 2 targets .name one of container:shop-api-1, "):
        resolve("container:service=api")


def test_the_shell_completes_names_and_what_they_are_chosen_by(container: Any) -> None:
    """Of those that run."""

    def completed(word: str) -> list[str]:
        context = click.Context(click.Command("run"))
        return [item.value for item in complete.target(context, click.Option(["--target"]), word)]

    assert completed("container:shop") == ["container:shop-api-1", "container:shop-api-2"]
    assert completed("container:s") == [
        "container:service=",
        "container:shop-api-1",
        "container:shop-api-2",
    ]
    assert completed("container:service=s") == ["container:service=shop/api"]
    assert "container:label=tier=front" in completed("container:label=t")


def test_those_that_are_down_are_not_meant(running: Engine, container: Any) -> None:
    """One is left; with none left it is said which there are."""
    os.kill(resolve("container:shop-api-1").processes[0].pid, signal.SIGKILL)
    until(lambda: not up(container), "its engine has not noticed")
    assert _names(resolve_all("container:service=api")) == ["container:shop-api-2"]
    assert _names([resolve("container:service=api")]) == ["container:shop-api-2"]
    other = running.client.containers.get("shop-api-2")
    other.kill()
    until(lambda: not up(other), "it runs on")
    with pytest.raises(ChaosdError, match=r"'api' is running .shop-api-1 is exited, shop-api-2 is exited"):
        resolve("container:service=api")
    other.start()


def _names(targets: list[Target]) -> list[str]:
    return [target.spec for target in targets]
