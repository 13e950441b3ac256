"""Units as targets, of a real systemd."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from systemd_world import World, systemd

SERVICE = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sh -c 'sleep 600 & sleep 601 & wait'\n"
ONESHOT = (
    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
)
RESOLVE = """
import json, sys, msgspec
from chaosd.errors import ChaosdError
from chaosd.targets.model import Target
from chaosd.targets.protect import protect, radius
from chaosd.targets.resolve import resolve
try:
    if sys.argv[1].startswith("{"):
        target = msgspec.json.decode(sys.argv[1], type=Target)
        target.check_alive()
    else:
        target = resolve(sys.argv[1])
    told = {"target": msgspec.to_builtins(target), "radius": radius(target)}
    told["members"] = [open(f"/proc/{ref.pid}/comm").read().strip() for ref in target.processes]
    protect(target)
except ChaosdError as error:
    told = {"error": str(error), "exit": int(error.exit)}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[World]:
    units = {"shop-api.service": SERVICE, "done.service": ONESHOT}
    with systemd(units, idle={"idle.service": SERVICE}) as world:
        yield world


def ask(host: World, word: str) -> dict[str, Any]:
    done = host.call(sys.executable, "-c", RESOLVE, word)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_unit_by_its_name_with_and_without_suffix(host: World) -> None:
    """Its main process leads, its cgroup is its own, and systemd is its manager."""
    for word in ("unit:shop-api.service", "unit:shop-api"):
        told = ask(host, word)
        target = told["target"]
        assert target["manager"] == "unit:shop-api.service"
        assert told["members"] == ["sh", "sleep", "sleep"]
        assert told["radius"] == "single-service"
        assert target["cgroups"]
        assert {
            ref["path"].endswith("/system.slice/shop-api.service") for ref in target["cgroups"].values()
        } == {True}
        main = host.call("systemctl", "show", "--property", "MainPID", "--value", "shop-api").stdout
        assert target["processes"][0]["pid"] == int(main)


def test_its_cgroup_and_its_pid_lead_to_the_same(host: World) -> None:
    """Also by these words systemd is known to manage it."""
    target = ask(host, "unit:shop-api")["target"]
    for word in ("cgroup:/system.slice/shop-api.service", f"pid:{target['processes'][0]['pid']}"):
        other = ask(host, word)["target"]
        assert other["cgroups"] == target["cgroups"]
        assert other["manager"] == "unit:shop-api.service"


def test_a_restart_makes_another_target(host: World) -> None:
    """The unit's name is the same, and its cgroup another."""
    target = ask(host, "unit:shop-api")["target"]
    assert "error" not in ask(host, json.dumps(target))
    assert host.call("systemctl", "restart", "shop-api").returncode == 0
    assert "unit:shop-api is gone: cgroup" in ask(host, json.dumps(target))["error"]
    assert "error" not in ask(host, "unit:shop-api")


def test_units_that_cannot_be_targets(host: World) -> None:
    """Not there, with near names; there without a process; and those that hold init."""
    assert ask(host, "unit:shop-ap") == {
        "error": "systemd has no unit shop-ap.service (did you mean unit:shop-api.service?)",
        "exit": 2,
    }
    assert "unit done.service has no processes: it is active (name a" in ask(host, "unit:done")["error"]
    assert "it is inactive (systemctl start idle.service)" in ask(host, "unit:idle")["error"]
    assert "it holds pid 1, the init" in ask(host, "unit:init.scope")["error"]
    assert "is a root cgroup" in ask(host, "unit:-.slice")["error"]


def test_a_slice_is_a_cluster(host: World) -> None:
    """It reaches every unit below."""
    assert ask(host, "unit:system.slice")["radius"] == "service-cluster"
