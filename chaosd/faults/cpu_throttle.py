"""``cpu.throttle``: a target gets a share of one CPU's time, and waits for the rest."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import CpuShare, limits, own
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel.cgroup import CPU_V1, CPU_V2
from chaosd.kernel.cgroup_plan import cpu_share
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target
from chaosd.units import Duration

_Share = Annotated[CpuShare, msgspec.Meta(description="share of ONE CPU; 150% is one and a half CPUs")]
_Period = Annotated[Duration, msgspec.Meta(description="how often it is dealt out, 1ms to 1s")]


class CpuThrottle(Fault, frozen=True, kw_only=True):
    """A target gets no more CPU time than ``percent`` of one CPU in each period."""

    name: ClassVar[str] = "cpu.throttle"
    mechanisms: ClassVar = (Mechanism("cgroup-v2", (CPU_V2,)), Mechanism("cgroup-v1", (CPU_V1,)))

    percent: _Share
    period: _Period = Duration(0.1)

    def check(self) -> list[str]:
        """The kernel takes periods of 1 ms to 1 s and at least 1 ms in each (kernel/sched/core.c)."""
        if not 0.001 <= self.period <= 1:
            return [f"period {self.period} is not between 1ms and 1s"]
        little = f"percent {self.percent} is under {0.1 / self.period:g}%: 1ms in each period"
        return [little] if self._quota < 1000 else []

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One value on v2; quota and period on v1."""
        ref = own(target, at, "cpu")
        had = min(cpu_share(ref) if ref is not None else math.inf, len(os.sched_getaffinity(0)))
        if had <= self.percent.fraction:
            raise ChaosdError(f"{target.spec} is already limited to {had:.0%} of a CPU", hint="ask for less")
        quota, period = str(self._quota), str(round(self.period * 1_000_000))
        v1 = {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota}
        settings = {"cpu.max": f"{quota} {period}"} if at.mechanism == "cgroup-v2" else v1
        unit = {"CPUQuotaPeriodSec": f"{period}us", "CPUQuota": str(self.percent)}
        whole = str(round(self.period * 1_000_000 * had))
        loose = {"cpu.max": f"{whole} {period}", "cpu.cfs_quota_us": whole, "CPUQuota": f"{had * 100:g}%"}
        return limits(target, at, "cpu", settings, unit, loose)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """The longest wait of a target that always wants to run."""
        rest = Duration(max(self.period * (1 - self.percent.fraction), 0))
        waits = f"a busy thread waits up to {rest} at a time"
        return [f"{target.spec} gets {self.percent} of one CPU; {waits}"]

    @property
    def _quota(self) -> int:
        return round(self.period * 1_000_000 * self.percent.fraction)
