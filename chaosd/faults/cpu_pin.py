"""``cpu.pin``: a target may run on the listed CPUs only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import limits, own, value
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.affinity import kept
from chaosd.kernel.cgroup import CPUSET_V1, CPUSET_V2
from chaosd.kernel.cgroup_file import cpus_of, online
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target


class CpuPin(Fault, frozen=True, kw_only=True):
    """Every thread of the target is crowded onto the given CPUs."""

    name: ClassVar[str] = "cpu.pin"
    mechanisms: ClassVar = (Mechanism("cgroup-v2", (CPUSET_V2,)), Mechanism("cgroup-v1", (CPUSET_V1,)))

    cpus: Annotated[
        list[int], msgspec.Meta(description="the CPUs that are left, numbered from 0", min_length=1)
    ]

    def check(self) -> list[str]:
        """CPUs that this host does not have."""
        known = cpus_of(online())
        return [f"cpus: this host has no CPU {cpu}, only {online()}" for cpu in self.cpus if cpu not in known]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One value; before it, a note of every thread that has an affinity of its own."""
        ref = own(target, at, "cpuset")
        allowed = cpus_of(
            value(ref, "cpuset.cpus.effective") or value(ref, "cpuset.effective_cpus") or online()
        )
        if not set(self.cpus) <= allowed:
            raise ChaosdError(
                f"{target.spec} may not run on CPUs {self.cpus}", hint=f"it has {sorted(allowed)}"
            )
        cpus = ",".join(map(str, sorted(set(self.cpus))))
        edits = limits(target, at, "cpuset", {"cpuset.cpus": cpus}, {"AllowedCPUs": cpus})
        return [*kept(target.processes, allowed), *edits]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How many CPUs are left of how many."""
        return [f"{target.spec} runs on {len(set(self.cpus))} of {os.cpu_count()} CPUs"]
