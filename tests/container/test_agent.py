"""chaosd in a container that hits its neighbors; what holds when it is killed there."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agent as agents
import pytest
from agent import CAPABILITIES, UNCONFINED, Agent
from shop_world import ROOT, Shop
from world import until

from chaosd.kernel import cgroup

pytestmark = pytest.mark.timeout(300)

TARGETS = {
    "network.delay delay=100ms": "container:shop-booking-1",
    "syscall.delay syscalls=[recvfrom,read] delay=20ms": "container:shop-booking-1",
    "cpu.throttle percent=1%": "container:shop-booking-1",
    "container.pause": "container:service=pms",
    "container.kill": "container:label=com.docker.compose.service=pms",
    "container.restart grace=1s": "container:shop-pms-1",
}
"""One of each family, and whom it hits."""


@pytest.fixture(scope="module")
def image(opened: Shop) -> Iterator[Agent]:
    with agents.agent(opened) as found:
        yield found


@pytest.fixture
def agent(image: Agent, shop: Shop) -> Iterator[Agent]:
    """Nothing of a run is left after a test."""
    yield image
    image.remove()
    assert image.journals() == []


@pytest.mark.parametrize("fault", TARGETS)
def test_it_hits_a_neighbor_and_puts_everything_back(agent: Agent, fault: str) -> None:
    """Each kind of fault, with the capabilities of the documentation and no more."""
    words = [
        "inject",
        *fault.split(),
        "--target",
        TARGETS[fault],
        "--duration",
        "3s",
        "--seed",
        "3",
        "--json",
    ]
    container = agent.start(*words)
    while container.status != "exited":
        agent.shop.get("/health")
        container.reload()
    status = container.attrs["State"]["ExitCode"]
    out = container.logs(stderr=False).decode()
    view: dict[str, Any] = json.loads(out)
    assert (status, view.get("verdict")) == (0, "passed"), (view.get("reason"), container.logs().decode())
    assert view["restored"]["differs"] == view["restored"]["stuck"] == []
    assert all(entry["injected"] for entry in view["evidence"]), view["evidence"]


def test_it_is_started_as_the_documentation_says() -> None:
    """With the very same capabilities and profiles, each explained there."""
    page = (ROOT / "docs/containers.md").read_text("utf-8")
    assert re.findall(r"--cap-add (\w+)", page) == list(CAPABILITIES)
    assert re.findall(r"--security-opt (\w+)=unconfined", page) == list(UNCONFINED)
    assert all(f"| `{name}` |" in page for name in CAPABILITIES)


def test_it_does_not_hit_itself(agent: Agent) -> None:
    """Its own container is protected, though it bears the label that was asked for."""
    words = ("inject", "container.pause", "--target", "container:image=chaosd", "--duration", "1s")
    container = agent.start(*words)
    assert container.wait(timeout=60)["StatusCode"] == 2
    assert "is protected" in container.logs().decode()


FAULTS = (
    "network.delay: {delay: 300ms, target: 'container:shop-booking-1'}",
    "container.pause: {target: 'container:shop-pms-1'}",
)
"""One that is eBPF and a relay, and one that stays until somebody writes the old value back."""


def test_stopped_in_mid_run_its_engine_puts_everything_back(agent: Agent) -> None:
    """As with Ctrl-C."""
    container = agent.start("run", _long(agent.shop))
    _wait_for_the_fault(agent)
    container.stop()
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 6
    assert b"host restored" in container.logs()
    assert agent.journals() == []
    assert not _frozen(agent.shop.pid("pms"))


def test_killed_in_mid_run_everything_is_put_back(agent: Agent) -> None:
    """The network is as fast as before at once; what is frozen is thawed by the watchdog, or by hand."""
    container = agent.start("run", _long(agent.shop))
    _wait_for_the_fault(agent)
    assert _frozen(agent.shop.pid("pms"))
    container.kill()
    until(lambda: _fast(agent.shop), "the network stays slow", 5)
    if agent.journals():  # with its container the watchdog is killed, too, where the engine is on cgroup v1
        status, out = agent.chaosd("revert", "--all")
        assert status == 0, out
    assert not _frozen(agent.shop.pid("pms"))
    assert agent.shop.get("/quote") == 200


def test_a_service_that_crashes_puts_everything_back_as_it_comes_up(agent: Agent) -> None:
    """Nobody does anything but the engine, which starts it again."""
    container = agent.start(options=["--restart=always"])
    until(lambda: b"chaosd serves" in container.logs(), "it does not serve", 30)
    container.exec_run(["chaosd", "run", _long(agent.shop)], detach=True)
    _wait_for_the_fault(agent)
    container.reload()
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
    until(lambda: not agent.journals(), "nothing is put back", 30)
    assert not _frozen(agent.shop.pid("pms"))
    assert _fast(agent.shop)


def _long(shop: Shop) -> str:
    return shop.scenario(*FAULTS, duration="60s", page="/health", more="blast_radius: service-cluster")


def _wait_for_the_fault(agent: Agent) -> None:
    begun = '"phase":"fault"'
    until(lambda: any(begun in path.read_text("utf-8") for path in agent.journals()), "no fault", 60)


def _fast(shop: Shop) -> bool:
    began = time.monotonic()
    return shop.get("/health") == 200 and time.monotonic() - began < 0.2


def _frozen(pid: int) -> bool:
    places = cgroup.of_process(pid)
    words = {"freezer": ("freezer.state", "FROZEN"), cgroup.UNIFIED: ("cgroup.freeze", "1")}
    files = [(Path(places[key], name), word) for key, (name, word) in words.items() if key in places]
    return any(file.exists() and file.read_text("ascii").strip() == word for file, word in files)
