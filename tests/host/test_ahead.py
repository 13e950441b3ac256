"""The probe that is loaded ahead is given to one process, once, and is gone with those who hold it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import daemonized
import world

from chaosd.kernel import ahead
from chaosd.kernel.capability_network import TAGGING

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
        assert not loaded() & (seen[0] | seen[1])
        os.kill(pid, signal.SIGKILL)
        world.until(lambda: not loaded() & seen[2], "it has outlived those who held it")
