"""What the faults that set limits share: in place, through systemd, or in a cgroup of our own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from chaosd.errors import ChaosdError
from chaosd.faults.base import Planning
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, members, read
from chaosd.kernel.cgroup_plan import enclose, in_place
from chaosd.kernel.edit import MARK, Edit
from chaosd.kernel.process import family, find, resident
from chaosd.kernel.systemd import SYSTEMD, UnitProperty, set_properties
from chaosd.targets.model import Target
from chaosd.units import Percent

_V2_ONLY = {"AllowedCPUs", "MemoryHigh", "MemoryMax"}  # systemd.resource-control(5)


class CpuShare(Percent):
    """Percent of one CPU: 150% is one and a half."""

    what = "share of one CPU"
    example = "20%"
    limit = 100_000.0


def key_of(at: Planning, controller: str) -> str:
    """The hierarchy that the chosen mechanism works in."""
    return UNIFIED if at.mechanism.startswith("cgroup-v2") else controller


def own(target: Target, at: Planning, controller: str) -> CgroupRef | None:
    """The cgroup that is the target's own in the controller's hierarchy, if it has one."""
    return target.cgroups.get(key_of(at, controller))


def value(ref: CgroupRef | None, file: str) -> str:
    """What a control file of the target holds; empty when it has no such file."""
    try:
        return read(ref, file) if ref is not None else ""
    except FileNotFoundError:
        return ""


def memory_used(target: Target, at: Planning) -> int:
    """Bytes of memory that a target has now."""
    ref = own(target, at, "memory")
    used = value(ref, "memory.current") or value(ref, "memory.usage_in_bytes")
    return int(used) if used else sum(map(resident, family(target.processes)))


def limits(
    target: Target,
    at: Planning,
    controller: str,
    settings: dict[str, str],
    unit: dict[str, str],
    loose: Mapping[str, str] = MappingProxyType({}),
) -> Iterable[Edit]:
    """The edits that put values into force for a target.

    Args:
        target: who gets the limit.
        at: the run's facts.
        controller: the cgroup controller the values belong to.
        settings: control files and values, in the order of writing.
        unit: the same as systemd properties, for a unit that systemd manages.
        loose: for some of both, the value from which on the target feels it.

    Raises:
        ChaosdError: the target has nothing that takes them.
    """
    return [_dialled(edit, loose) for edit in _limits(target, at, controller, settings, unit)]


def _dialled(edit: Edit, loose: Mapping[str, str]) -> Edit:
    key = edit.key if isinstance(edit, UnitProperty) else getattr(edit, "file", "")
    return replace(edit, loose=loose[key]) if key in loose else edit


def _limits(
    target: Target, at: Planning, controller: str, settings: dict[str, str], unit: dict[str, str]
) -> Iterable[Edit]:
    key, ref = key_of(at, controller), own(target, at, controller)
    if ref is not None and _sticks(ref, settings):
        held = [process for process in map(find, members(ref.path)) if process is not None]
        return enclose(held, key, controller, f"{MARK}-{at.run}", settings)
    through_systemd = key == UNIFIED or not unit.keys() & _V2_ONLY
    if ref is not None and through_systemd and target.manager.startswith("unit:") and SYSTEMD().ok:
        return set_properties(target.manager.removeprefix("unit:"), unit, ref, [*settings][-1])
    if ref is not None:
        return in_place(ref, key, controller, settings)
    processes = family(target.processes)
    if not processes:
        raise ChaosdError(f"{target.spec} has no processes to limit", hint="aim at a pid, unit or container")
    return enclose(processes, key, controller, f"{MARK}-{at.run}", settings)


def _sticks(ref: CgroupRef, settings: dict[str, str]) -> bool:
    # the CPUs of a cgroup that holds processes cannot be unset again: ENOSPC (validate_change(),
    # kernel/cgroup/cpuset.c); systemd fails at that as well
    return "cpuset.cpus" in settings and not value(ref, "cpuset.cpus") and bool(members(ref.path))
