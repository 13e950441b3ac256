"""What is loaded ahead does the same as any other, is given once, and is gone with those who hold it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import daemonized
import pytest
import traffic
import world
from injecting import device, injected
from msgspec.structs import replace

from chaosd.faults.network_loss import NetworkLoss
from chaosd.kernel import ahead, bpf, gate
from chaosd.kernel.capability_network import GATE, TAGGING
from chaosd.kernel.gate import Gate, Traffic
from chaosd.kernel.match import Filters, Rule
from chaosd.kernel.netns import NetnsRef
from chaosd.units import Percent

PORT = 7001
SENDS = """
import socket, time
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    end.sendto(b"x", ("10.99.1.2", 7002))
    time.sleep(0.01)
"""
LOSS = "name: loss\nduration: 100ms\nblast_radius: service-cluster\nfaults: [{network.loss: {percent: 5%}}]\n"


def held(pid: int) -> set[int]:
    """The ids of the eBPF programs that a process holds."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = dict(
                line.split(":\t", 1) for line in info.read_text("ascii").splitlines() if ":\t" in line
            )
        except FileNotFoundError:
            continue
        if "prog_id" in lines:
            found.add(int(lines["prog_id"]))
    return found


def loaded() -> set[int]:
    shown = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True).stdout
    return {program["id"] for program in json.loads(shown)}


def taken_by_a_child() -> int:
    """Have a child take a probe: how many programs it holds then that this process holds, too."""
    mine = held(os.getpid())
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            inherited = {int(fd) for fd in os.listdir("/proc/self/fd")}
            probe = ahead.tagger(("chaosd_socket",))
            status = len(mine) if probe.program("chaosd_socket") in inherited else 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_it_is_given_once_and_then_there_is_another() -> None:
    world.need(TAGGING)
    before = held(os.getpid())
    assert taken_by_a_child() == 0
    try:
        for _ in range(2):
            ahead.stock()
            first = held(os.getpid()) - before
            assert len(first) == 3
            ahead.stock()
            assert held(os.getpid()) - before == first
            assert taken_by_a_child() == 3
            assert taken_by_a_child() == 0
            ahead.stock()
            assert not held(os.getpid()) & first
            assert not loaded() & first
    finally:
        ahead.tagger(()).close()
    assert held(os.getpid()) == before


def ids() -> set[int]:
    return held(os.getpid())


@pytest.fixture
def gate_ahead() -> Iterator[set[int]]:
    """The programs of a gate that is loaded ahead in this process."""
    world.need(GATE)
    before = ids()
    gate.load_ahead()
    yield ids() - before
    for left in gate._ahead:
        left.probe.close()
    gate._ahead.clear()
    assert ids() == before


def test_a_gate_loaded_ahead_loses_the_packets_that_any_other_would(gate_ahead: set[int]) -> None:
    """The first of three takes it; the seed decides the same for all."""
    lossy, got, used = NetworkLoss(percent=Percent(30), ports=[PORT], cidrs=["10.0.0.0/8"]), [], []
    with world.netns() as left, world.netns() as right, world.veth(left, right) as (end, _):
        for _ in range(3):
            before = ids()
            with injected(lossy, device(end), seed=7) as run:
                used.append(ids() - before)
                got.append(traffic.delivered(left, right, "10.99.1.2", PORT, 499))
                assert run.evidence.matched == 499
        assert len(traffic.delivered(left, right, "10.99.1.2", PORT, 49)) == 49
    assert (used[0], len(used[1]), len(used[2])) == (set(), 1, 1)
    assert got[0] == got[1] == got[2]
    assert len(gate_ahead) == 2
    assert not ids() & gate_ahead
    assert not loaded() & gate_ahead


@pytest.mark.parametrize(
    "other",
    [
        {"act": "double"},
        {"filters": Filters(ports=((1, 65),))},
        {"programs": ("chaosd_out", "chaosd_in")},
        {"programs": ()},
        {"traffic": Traffic("connections")},
    ],
    ids=str,
)
def test_a_gate_that_it_does_not_do_for_is_loaded(gate_ahead: set[int], other: dict[str, Any]) -> None:
    plain = Gate("0badc0", 5, NetnsRef.own(), "drop", Filters(), Rule(1), programs=("chaosd_out",))
    before = ids()
    odd = replace(plain, **other)
    odd.apply()
    assert ids() - before
    odd.revert()
    plain.apply()
    assert ids() == before
    plain.revert()
    assert not ids() & gate_ahead


def test_whom_it_meets_is_said_once(gate_ahead: set[int]) -> None:
    plain = Gate("0badc0", 5, NetnsRef.own(), "drop", Filters(), Rule(1), programs=("chaosd_out",))
    plain.apply()
    probe = bpf.live[plain.slot]
    assert isinstance(probe, bpf.Object)
    with pytest.raises(OSError, match="Operation not permitted"):
        probe.map(".rodata.aim").update(bytes(4), bytes(112))
    plain.revert()


def test_the_run_that_a_child_waits_for_takes_what_it_has_loaded() -> None:
    """The packets of the target are lost, and those of another process in its namespace are not."""
    world.need(TAGGING)
    loss = LOSS.replace("5%", "100%").replace("100ms", "500ms")
    with (
        daemonized.daemon() as daemon,
        world.netns() as near,
        world.netns() as far,
        world.veth(near, far),
        world.spawn(world.python(SENDS), ns=near) as target,
    ):
        order = {"text": loss, "target": f"pid:{target.pid}"}
        daemon.events(
            daemon.post("/v1/runs", order)["run"]
        )  # from here on it is known what this kernel can do
        world.until(daemon.idle, "nobody waits")
        child = daemon.names()["chaosd-ahead"]
        world.until(lambda: len(held(child)) == 5, "it has no gate")
        ready = held(child)
        run = daemon.post("/v1/runs", order)["run"]
        daemon.wait_phase(run, "fault")
        assert held(child) == ready
        assert len(traffic.delivered(near, far, "10.99.1.2", PORT, 49)) == 49
        told = daemon.events(run)
        (counted,) = next(r["evidence"] for r in reversed(told) if r["type"] == "sample")
        assert counted["injected"] == counted["matched"] > 0
        assert told[-1]["verdict"] == "passed"


def test_a_daemon_has_one_ready_and_leaves_none() -> None:
    world.need(TAGGING)
    with daemonized.daemon() as daemon, world.netns() as near, world.netns() as far, world.veth(near, far):
        pid = daemon.names()["chaosd-zygote"]
        world.until(lambda: len(held(pid)) == 3, "nothing is ready")
        with world.spawn(world.python("import time; time.sleep(60)"), ns=near) as target:
            seen = [held(pid)]
            for _ in range(2):
                run = daemon.post("/v1/runs", {"text": LOSS, "target": f"pid:{target.pid}"})["run"]
                assert any(record["type"] == "restored" for record in daemon.events(run))
                world.until(lambda: held(pid) - seen[-1], "what was taken is still there")
                world.until(lambda: len(held(pid)) == 3, "nothing is ready")
                seen.append(held(pid))
        assert len(set.union(*seen)) == 9
        world.until(lambda: not loaded() & (seen[0] | seen[1]), "what was taken is still loaded")
        os.kill(pid, signal.SIGKILL)
        world.until(lambda: not loaded() & seen[2], "it has outlived those who held it")
