"""The kernel under test is the one that the other tests take it for."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
from pathlib import Path

import pytest

import chaosd.kernel
from chaosd.kernel.capability import Capability
from chaosd.kernel.netns import inside
from tests.host import world


def _capabilities() -> dict[str, Capability]:
    found = {}
    names = [f"chaosd.kernel.{entry.name}" for entry in pkgutil.iter_modules(chaosd.kernel.__path__)]
    for module in map(importlib.import_module, (*names, "container_engine", "programs")):
        found |= {value.name: value for value in vars(module).values() if isinstance(value, Capability)}
    return found


_REQUIRED = [name for name in os.environ.get("CHAOSD_REQUIRE", "").split(",") if name]


@pytest.mark.parametrize("name", _REQUIRED)
def test_what_is_required_is_known_and_holds(name: str) -> None:
    """Without this a misspelled name in CHAOSD_REQUIRE would require nothing."""
    known = _capabilities()
    assert name in known, f"CHAOSD_REQUIRE names {name}; there are {sorted(known)}"
    assert known[name]().ok, known[name]().reason


def test_every_capability_answers_and_says_why_not() -> None:
    """No attempt may raise: doctor shows all of them on any kernel."""
    for name, capability in _capabilities().items():
        verdict = capability()
        assert verdict.ok or verdict.reason, f"{name} is missing and does not say why"


def test_netem_can_be_added_in_a_scratch_namespace() -> None:
    """The kernel itself can do what a delay is built on, apart from any code of ours."""
    tc = ["tc", "qdisc", "replace", "dev", "lo", "root", "netem", "delay", "100ms"]
    with world.netns() as ns, inside(ns):
        done = subprocess.run(tc, capture_output=True, text=True)
        if done.returncode:
            _absent("netem", done.stderr.strip().replace("\n", " "))
        shown = subprocess.run(["tc", "qdisc", "show"], check=True, capture_output=True, text=True)
    assert "netem" in shown.stdout
    assert "delay 100ms" in shown.stdout


@pytest.mark.parametrize("name", ["cpu", "cpuset", "memory", "pids"])
def test_cgroup_v2_hands_down_its_controllers(name: str) -> None:
    """A cgroup made by a test can be limited, apart from any code of ours."""
    controllers = (world.cgroup_root() / "cgroup.subtree_control").read_text("ascii").split()
    if name not in controllers:
        _absent(f"cgroup-v2-{name}", f"only {controllers} are handed down")
    file = {"cpu": "cpu.max", "cpuset": "cpuset.cpus", "memory": "memory.high", "pids": "pids.max"}[name]
    value = {"cpu": "5000 100000", "cpuset": "0", "memory": "1048576", "pids": "7"}[name]
    with world.cgroup() as cg:
        Path(cg.path, file).write_text(value, "ascii")
        assert Path(cg.path, file).read_text("ascii").strip() == value


def _absent(name: str, why: str) -> None:
    if name in _REQUIRED:
        pytest.fail(f"required here, yet missing: {name}: {why}")
    pytest.skip(f"{name}: {why}")
