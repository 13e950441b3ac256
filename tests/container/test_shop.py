"""Faults on containers, seen from outside: at the booking service, by the engine, and in the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shop_world import Shop
from world import until

from chaosd.kernel import cgroup

pytestmark = pytest.mark.timeout(300)


def median(view: dict[str, Any], when: str) -> float:
    """The middle of what the check of the shop took, in seconds."""
    return float(view["stats"][when]["shop"]["p50"])


def test_a_slow_database_is_felt_at_the_booking_service(shop: Shop) -> None:
    """By the compose service's name; a request makes one connection and asks one question of it."""
    fault = "network.delay: {delay: 300ms, target: 'container:service=shop/database'}"
    view = shop.run(shop.scenario(fault))
    assert view["verdict"] == "passed"
    assert view["plan"]["faults"][0]["target"] == "container:shop-database-1"
    assert view["plan"]["radius"] == "single-service"
    assert median(view, "before") < 0.2
    assert 0.5 < median(view, "during") < 2
    assert median(view, "after") < 0.2


def test_a_container_that_is_killed_is_started_again(shop: Shop) -> None:
    """The engine takes it for a crash; without a restart policy it is chaosd that starts it, at the end."""
    before = shop.pid("pms")
    view = shop.run(shop.scenario("container.kill: {target: 'container:shop-pms-1'}", page="/health"))
    assert view["verdict"] == "passed"
    assert view["evidence"][0]["injected"] == 1
    after = shop.pid("pms")
    assert after not in (0, before)
    assert shop["pms"].attrs["State"]["Status"] == "running"


def test_a_container_that_nobody_starts_again_stays_down(shop: Shop) -> None:
    """As the fault was told."""
    fault = "container.kill: {restart: false, target: 'container:shop-pms-1'}"
    shop.run(shop.scenario(fault, page="/health", duration="1s"))
    assert shop["pms"].status == "exited"


def test_a_paused_container_takes_connections_and_does_not_answer(shop: Shop) -> None:
    """By its label. To its engine it runs; it is thawed by the end of the run alone."""
    fault = "container.pause: {target: 'container:label=tier=front'}"
    process = shop.start("run", shop.scenario(fault, within="1s"), "--json")
    shop.wait('"phase":"fault"')
    assert shop["booking"].status == "running"
    assert _frozen(shop.pid("booking"))
    view = json.loads(process.communicate(timeout=60)[0])
    assert view["verdict"] == "passed", view["reason"]
    assert view["stats"]["during"]["shop"]["failed"] > 0
    assert not _frozen(shop.pid("booking"))
    assert shop.get("/bookings") == 200


def _frozen(pid: int) -> bool:
    places = cgroup.of_process(pid)
    words = {"freezer": ("freezer.state", "FROZEN"), cgroup.UNIFIED: ("cgroup.freeze", "1")}
    files = [(Path(places[key], name), word) for key, (name, word) in words.items() if key in places]
    return any(file.exists() and file.read_text("ascii").strip() == word for file, word in files)


def test_a_label_may_stand_for_several_containers(shop: Shop) -> None:
    """Each is a target of its own; together they are a cluster, which must be declared."""
    fault = "cpu.throttle: {percent: 50%, target: 'container:label=tier=back'}"
    status, out = shop.chaosd("plan", shop.scenario(fault))
    assert status == 2
    assert "reaches service-cluster, but the scenario declares blast_radius: single-service" in out
    view = shop.run(shop.scenario(fault, more="blast_radius: service-cluster"), expect=4)
    assert [planned["target"] for planned in view["plan"]["faults"]] == [
        "container:shop-database-1",
        "container:shop-pms-1",
    ]
    assert "hit nothing" in view["reason"], "they idle"


def test_a_container_that_is_restarted_by_the_engine_is_followed(shop: Shop) -> None:
    """The delay is on the new namespace as it was on the old one; what was counted adds up."""
    before = shop.pid("booking")
    fault = "network.delay: {delay: 300ms, target: 'container:shop-booking-1'}"
    file = shop.scenario(fault, duration="12s", page="/health", more="on_restart: follow")
    process = shop.start("run", file, "--json")
    shop.wait('"type":"sample"')
    until(lambda: _injected(shop) > 0, "nothing was hit")
    hit = _injected(shop)
    shop["booking"].restart(timeout=0)
    shop.wait('"type":"followed"')
    out, errors = process.communicate(timeout=60)
    view = json.loads(out)
    assert view["verdict"] == "passed", (view["reason"], errors)
    assert view["restored"]["differs"] == view["restored"]["stuck"] == []
    assert view["followed"] == {"network.delay on container:shop-booking-1": 1}
    assert view["evidence"][0]["injected"] > hit + 5
    assert median(view, "during") > 0.25
    assert median(view, "after") < 0.2
    assert shop.pid("booking") not in (0, before)
    assert "followed to where it was started again, 1 time" in shop.chaosd("report")[1]


def _injected(shop: Shop) -> int:
    samples = [line for path in shop.live() for line in path.read_text("utf-8").splitlines()]
    counted = [json.loads(line)["evidence"] for line in samples if '"type":"sample"' in line]
    return int(counted[-1][0]["injected"]) if counted and counted[-1] else 0


def test_a_container_that_is_restarted_ends_the_run_that_does_not_follow(shop: Shop) -> None:
    """As ever: the target is lost, and what was there is put back."""
    fault = "cpu.throttle: {percent: 50%, target: 'container:shop-pms-1'}"
    process = shop.start("run", shop.scenario(fault, duration="20s", page="/health"), "--json")
    shop.wait('"phase":"fault"')
    shop["pms"].restart(timeout=0)
    view = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 1
    assert view["verdict"] == "target-lost"
    assert view["restored"]["differs"] == view["restored"]["stuck"] == []


def test_one_that_stays_away_is_lost(shop: Shop) -> None:
    """At the end of the run it must be there, or the run has not shown what it was for."""
    fault = "cpu.throttle: {percent: 50%, target: 'container:shop-pms-1'}"
    file = shop.scenario(fault, duration="5s", page="/health", more="on_restart: follow")
    process = shop.start("run", file, "--json")
    shop.wait('"phase":"fault"')
    shop["pms"].kill()
    view = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, view["verdict"]) == (1, "target-lost")
    assert "is not running: exited" in view["reason"]


def test_a_restart_is_followed_by_the_other_fault_of_the_run(shop: Shop) -> None:
    """The engine stops the container and starts it; the throttle is on it before and after."""
    before = shop.pid("pms")
    target = "target: 'container:service=pms'"
    file = shop.scenario(
        f"cpu.throttle: {{percent: 1%, {target}}}",
        f"container.restart: {{grace: 3s, start: 2s, {target}}}",
        duration="10s",
        page="/quote",
        more="on_restart: follow",
    )
    view = shop.run(file)
    assert view["followed"] == {"cpu.throttle on container:shop-pms-1": 1}
    assert [(e["fault"], e["injected"] > 0) for e in view["evidence"]] == [
        ("cpu.throttle", True),
        ("container.restart", True),
    ]
    throttles = [edit["state"] for edit in view["edits"].values() if "cfs_quota" in edit["says"]]
    throttles = throttles or [edit["state"] for edit in view["edits"].values() if "cpu.max" in edit["says"]]
    assert throttles == ["already gone", "undone"]
    assert shop.pid("pms") not in (0, before)


@pytest.mark.parametrize("victim", ["before", "after"])
def test_sigkill_of_the_engine_while_it_follows(shop: Shop, victim: str) -> None:
    """Before it has found the container again, and after: the watchdog puts everything back."""
    faults = [
        f"{fault}, target: 'container:shop-pms-1'}}"
        for fault in ("network.delay: {delay: 50ms", "cpu.throttle: {percent: 50%")
    ]
    file = shop.scenario(*faults, duration="30s", page="/health", more="on_restart: follow")
    process = shop.start("run", file, "--json")
    shop.wait('"phase":"fault"')
    container = shop["pms"]
    container.kill()
    until(lambda: shop["pms"].status == "exited", "it runs on")
    if victim == "after":
        container.start()
        shop.wait('"type":"followed"')
        until(lambda: _open(shop) > 4, "it is not in force again")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: shop.live() == [], "the run was not closed")
    container.start()
    [journal] = (shop.folder / "state/runs").glob("*.jsonl")
    records = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    [end] = [record for record in records if record["type"] == "end"]
    assert end["verdict"] == "killed"
    [restored] = [record for record in records if record["type"] == "restored"]
    assert restored["differs"] == []
    assert restored["compared"] > 0 or victim == "before"
    assert _quota(shop.pid("pms")) in ("-1", "max")


def test_sigkill_of_the_engine_while_a_container_is_restarted(shop: Shop) -> None:
    """The Docker Engine ends what it was asked for; the watchdog sees to it that the container is up."""
    before = shop.pid("pms")
    fault = "container.restart: {grace: 3s, target: 'container:shop-pms-1'}"
    process = shop.start("run", shop.scenario(fault, duration="20s", page="/health"), "--json")
    until(lambda: not Path(f"/proc/{before}").exists(), "it does not end", 30)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: shop.live() == [], "the run was not closed")
    until(lambda: shop.pid("pms") not in (0, before), "it was not restarted")
    assert shop["pms"].status == "running"


def _open(shop: Shop) -> int:
    lines = [line for path in shop.live() for line in path.read_text("utf-8").splitlines()]
    return sum('"type":"applied"' in line for line in lines) - sum(
        '"type":"reverted"' in line for line in lines
    )


def _quota(pid: int) -> str:
    places = cgroup.of_process(pid)
    files = [Path(places.get("cpu", ""), "cpu.cfs_quota_us"), Path(places.get(cgroup.UNIFIED, ""), "cpu.max")]
    return next(file.read_text("ascii").split()[0] for file in files if file.exists())


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (
            "service=databse",
            "no container with service 'databse'\n  hint: did you mean container:service=database",
        ),
        ("service=shop/databse", "did you mean container:service=shop/database"),
        ("label=teir=back", "did you mean container:label=tier=back"),
        ("image=shopp", "did you mean container:image=shop"),
        ("image=", "image= names nothing\n  hint: such as container:image=postgres:16"),
        ("lable=tier", "containers are not chosen by 'lable'\n  hint: a name or an id, or by label,"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_is_near(shop: Shop, word: str, says: str) -> None:
    """In one line and a hint."""
    status, out = shop.chaosd(
        "inject", "container.pause", "--target", f"container:{word}", "--duration", "1s"
    )
    assert status == 2, out
    assert says in out
    assert len(out.strip().splitlines()) == 2


def test_what_is_no_container_is_refused(shop: Shop) -> None:
    """A process is not one, not even that of a container."""
    words = ("--target", f"pid:{shop.pid('pms')}", "--duration", "1s")
    status, out = shop.chaosd("inject", "container.kill", *words)
    assert status == 5
    assert "container.kill is about containers, and pid:" in out


def test_a_capability_that_is_missing_is_said_in_one_line(shop: Shop) -> None:
    """Root in a container may not do what root on the host may."""
    words = ("network.delay", "delay=1ms", "--target", "container:shop-pms-1", "--duration", "1s")
    argv = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "chaosd", "inject", *words]
    done = subprocess.run(argv, env=shop.env, cwd=shop.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "Operation not permitted" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
