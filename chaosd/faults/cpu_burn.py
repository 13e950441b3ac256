"""``cpu.burn``: CPU time is used up, on the host or within a target's own share of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import CpuShare, value
from chaosd.faults._load import PROCESS, load, within
from chaosd.faults.base import Fault, Planning
from chaosd.kernel.cgroup_file import cpus_of, online
from chaosd.kernel.cgroup_plan import cpu_share
from chaosd.kernel.edit import Edit
from chaosd.kernel.load import Burn
from chaosd.targets.model import Target
from chaosd.units import Percent

_Share = Annotated[CpuShare | None, msgspec.Meta(description="of ONE CPU; 150% is one and a half CPUs")]
_Each = Annotated[Percent | None, msgspec.Meta(description="of EACH CPU that the target may use")]
_Pinned = Annotated[list[int], msgspec.Meta(description="burn on these CPUs alone, numbered from 0")]
_CONTROLLERS = ("cpu", "cpuset", "cpuacct")


class CpuBurn(Fault, frozen=True, kw_only=True):
    """CPU time is burned: of the host, or in the target's cgroup, so that it competes with itself.

    A load of less than a CPU comes in slices of 20 ms. What others need first, the load does not get:
    the report says what it had.
    """

    name: ClassVar[str] = "cpu.burn"
    mechanisms: ClassVar = PROCESS

    percent: _Share = None
    each: _Each = None
    pinned: _Pinned = []

    def check(self) -> list[str]:
        """One of the two must be given."""
        if (self.percent is None) == (self.each is None):
            return ["give either percent or each, such as percent: 80%"]
        return [] if self.percent or self.each else ["a load of 0% burns nothing"]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One load; each full CPU of it is a process."""
        places, usable = within(target, _CONTROLLERS), self._cpus(target)
        shares = self._shares(len(usable))
        if len(shares) > len(usable):
            raise ChaosdError(f"{target.spec} has {len(usable)} CPUs for this", hint="burn less")
        cpus = tuple(usable) if self.pinned else ()
        return load(Burn(shares, cpus), at, [*places.values()])

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How much of how many, and what the target's own limit does to it."""
        usable = self._cpus(target)
        burned = sum(self._shares(len(usable)))
        said = [f"{burned:.4g} of the {len(usable)} CPUs that {target.spec} may use are kept busy"]
        limit = min((cpu_share(ref) for ref in within(target, _CONTROLLERS).values()), default=float("inf"))
        if limit < float("inf"):
            said.append(f"load and target together get no more than its limit of {limit:.4g} CPUs")
        return said

    def _shares(self, cpus: int) -> tuple[float, ...]:
        if self.each is not None:
            return (self.each.fraction,) * cpus
        wanted = (self.percent or Percent(0)) / 100
        full, rest = divmod(wanted, 1)
        return (1.0,) * int(full) + ((round(rest, 6),) if rest > 1e-6 else ())

    def _cpus(self, target: Target) -> list[int]:
        ref = within(target, _CONTROLLERS).get("cpuset")
        listed = value(ref, "cpuset.cpus.effective") or value(ref, "cpuset.effective_cpus")
        usable = cpus_of(listed or online())
        if not {*self.pinned} <= usable:
            raise ChaosdError(
                f"{target.spec} may not run on CPUs {self.pinned}", hint=f"it has {sorted(usable)}"
            )
        return sorted({*self.pinned} or usable)
