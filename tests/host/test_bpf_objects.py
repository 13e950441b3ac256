"""The eBPF objects: they load here, say what is wrong in one line, and obey one lease."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
import world

from chaosd.errors import UnsupportedError
from chaosd.kernel import bpf, links
from chaosd.kernel.capability_network import CONNECT, GATE, TAGGING
from chaosd.kernel.gate import Gate
from chaosd.kernel.match import Filters, Rule
from chaosd.kernel.netns import NetnsRef

PROBES = sorted(path.stem for path in (Path(bpf.__file__).parent.parent / "_probes").glob("*.o"))


def test_there_are_probes() -> None:
    assert {"gate", "cgroup", "override", "security", "tag", "relay_return"} <= set(PROBES)


@pytest.mark.parametrize("name", ["gate", "cgroup", "tag", "relay_return"])
def test_a_probe_loads_under_names_of_ours(name: str) -> None:
    world.need(GATE, CONNECT, TAGGING)
    probe = bpf.Object(name)
    shown = subprocess.run(["bpftool", "prog", "show"], capture_output=True, text=True, check=False).stdout
    assert "name chaosd_" in shown
    probe.close()
    probe.close()


def test_a_config_of_another_size_is_refused_in_one_line() -> None:
    with pytest.raises(UnsupportedError, match="config of another size") as refused:
        bpf.Object("gate", b"123")
    assert "\n" not in str(refused.value)


def test_a_probe_that_is_not_built_says_how_to_build_it() -> None:
    with pytest.raises(UnsupportedError, match="make -C probes"):
        bpf.Object("nosuch")


def test_a_program_that_the_kernel_refuses_says_why() -> None:
    """The wrong attach type for a program is a refusal that the kernel makes."""
    world.need(CONNECT)
    probe = bpf.Object("cgroup")
    with pytest.raises(UnsupportedError, match=r"link to .*: "):
        links.link_cgroup(probe.program("chaosd_connect4"), str(world.cgroup_root()), "sock_create")
    probe.close()


def test_the_lease_is_a_page_that_children_see_and_may_end() -> None:
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 5
    bpf.renew(until)
    assert bpf.lease().until == pytest.approx(until, abs=1e-6)
    child = os.fork()
    if child == 0:
        seen = bpf.lease().until
        bpf.renew(0)
        os._exit(0 if abs(seen - until) < 1e-6 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bpf.lease().until == 0


def test_a_gate_holds_its_maps_until_it_is_reverted() -> None:
    world.need(GATE)
    gate = Gate("0badc0", 5, NetnsRef.own(), "drop", Filters(ports=((1, 9),), cidrs=("10.0.0.0/8",)), Rule(1))
    gate.apply()
    probe = bpf.live[gate.slot]
    assert isinstance(probe, bpf.Object)
    ports = probe.map("ports", 1)
    assert struct.pack("=HH", 0, 9) in ports
    assert struct.pack("=HH", 0, 10) not in ports
    assert struct.pack("=HH", 1, 9) not in ports
    evidence = gate.evidence()
    assert evidence is not None
    assert (evidence.matched, evidence.injected) == (0, 0)
    gate.revert()
    assert gate.evidence() is None
    assert gate.slot not in bpf.live
