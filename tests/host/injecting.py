"""Apply a fault to a target as a run does, and demand that nothing of it is left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import world

from chaosd.faults._syscall import LADDER
from chaosd.faults.base import Fault, Planning
from chaosd.kernel import bpf
from chaosd.kernel.edit import Edit, Evidence, Hit
from chaosd.kernel.gate import Gate
from chaosd.kernel.injection import Injection as Calls
from chaosd.kernel.netns import DeviceRef, NetnsRef
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.tracing import Trace
from chaosd.plan import add_up
from chaosd.targets.model import Target

RUN = os.urandom(3).hex()  # of no other worker: helpers are found, and ended, by it
NEEDS = {mechanism.name: mechanism.needs for mechanism in LADDER}
"""What each mechanism for system calls needs, by its name."""


class Injection:
    """The edits of a fault that is in force."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self.edits = edits

    @property
    def evidence(self) -> Evidence:
        """What the edits counted, those that only lose packets on the way left out."""
        counting = [edit for edit in self.edits if isinstance(edit, (Gate, Calls, Trace))]
        return add_up([found for edit in counting if (found := edit.evidence()) is not None])

    def hits(self) -> list[Hit]:
        """Single events since this was last asked for."""
        return [hit for edit in self.edits for hit in edit.hits()]


def lease(seconds: float) -> None:
    """Let everything loaded strike for so long from now."""
    bpf.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + seconds)


def planned(
    fault: Fault, target: Target, *, index: int = 0, seed: int = 7, operator: tuple[str, ...] = ()
) -> list[Edit]:
    """The edits of a fault by the best mechanism there is; skips where there is none."""
    assert fault.check() == []
    ladder = [m for m in fault.mechanisms if fault.mechanism in ("", m.name)]
    usable = [rung for rung in ladder if not rung.out_of_place() and not rung.missing()]
    if not usable:
        world.need(*ladder[-1].needs)
    at = Planning(RUN, index, seed, usable[0].name, 60.0, operator)
    assert fault.effect(target, at)
    return list(dict.fromkeys(fault.plan(target, at)))


@contextmanager
def applied(edits: Sequence[Edit]) -> Iterator[None]:
    """Apply edits in order; afterwards revert in reverse and compare all that lies around them."""
    before = around(edits)
    done: list[Edit] = []
    try:
        for edit in edits:
            assert edit.describe()
            done.append(edit)
            edit.apply()
            assert edit.present(), edit
        lease(120)
        yield
    finally:
        for edit in reversed(done):
            edit.revert()
        bpf.renew(0)
    assert [edit for edit in edits if edit.present()] == []
    assert around(edits) == before


def around(edits: Sequence[Edit]) -> dict[str, str]:
    """The surroundings of all edits."""
    return {name: value for edit in edits for name, value in edit.surroundings().items()}


@contextmanager
def injected(
    fault: Fault, target: Target, *, index: int = 0, seed: int = 7, operator: tuple[str, ...] = ()
) -> Iterator[Injection]:
    """A fault in force on a target."""
    edits = planned(fault, target, index=index, seed=seed, operator=operator)
    with applied(edits):
        yield Injection(edits)


def device(ref: DeviceRef) -> Target:
    """One interface as a target."""
    return Target("dev:test", device=ref, netns=ref.netns)


def everything(ns: NetnsRef) -> Target:
    """A whole namespace as a target."""
    return Target("netns:test", netns=ns, own_netns=True)


def process(pid: int, ns: NetnsRef) -> Target:
    """One process in a namespace that it shares with others."""
    return Target(f"pid:{pid}", processes=(ProcessRef.of(pid),), netns=ns)
