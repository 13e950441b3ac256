"""What the faults share that are real load: who they are for, and which cgroups their process goes into."""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.errors import ChaosdError
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel import memory
from chaosd.kernel.cgroup import CgroupRef, home_of, read
from chaosd.kernel.cgroup_group import Subgroup
from chaosd.kernel.edit import MARK, Edit
from chaosd.kernel.load import Burn, Hold, Load
from chaosd.targets.model import Target
from chaosd.units import Size

PROCESS = (
    Mechanism(
        "process",
        note="a process of chaosd's own, which dies with it and is the first that the OOM killer takes",
    ),
)
HOST = "host"


def within(target: Target, controllers: Sequence[str]) -> dict[str, CgroupRef]:
    """The target's own cgroups that have these controllers, by controller; none for the host.

    Raises:
        ChaosdError: it has no cgroup of its own with the first of them.
    """
    if target.spec == HOST:
        return {}
    homes = {name: home_of(name) for name in controllers}
    found = {name: target.cgroups[key] for name, key in homes.items() if key in target.cgroups}
    if controllers[0] not in found:
        raise ChaosdError(
            f"{target.spec} has no {controllers[0]} cgroup to itself, where a load would be with it alone",
            hint="aim at a cgroup, unit or container, or say host",
        )
    return found


def load(work: Burn | Hold, at: Planning, places: Sequence[CgroupRef]) -> list[Edit]:
    """The edits that make a load in cgroups.

    A cgroup of v2 that gives controllers to its children takes no process itself (the "no internal
    process" rule); the load gets a child of its own there.
    """
    refs = tuple(dict.fromkeys(places))
    full = next((ref for ref in refs if _only_children(ref)), None)
    if full is None:
        return [Load(at.run, at.index, work, refs)]
    group = Subgroup(full, f"{MARK}-{at.run}-{at.index}")
    others = tuple(ref for ref in refs if ref != full)
    return [group, Load(at.run, at.index, work, others, group.path)]


def _only_children(ref: CgroupRef) -> bool:
    try:
        return bool(read(ref, "cgroup.subtree_control")) and read(ref, "cgroup.type") == "domain"
    except FileNotFoundError:  # v1, or the root
        return False


def memory_left(target: Target) -> int:
    """Bytes of memory that a load of the target may take: what its limits and the host leave."""
    places = within(target, ("memory",))
    host = max(memory.available() - memory.floor(), 0)
    return min([host, *(left for ref in places.values() if (left := memory.limit_left(ref)) is not None)])


def memory_effect(target: Target) -> list[str]:
    """What keeps the host safe, and what does not keep the target."""
    said = [f"the host keeps {Size(memory.floor())} available: below that the load gives memory back"]
    for ref in within(target, ("memory",)).values():
        if memory.limit_left(ref) is not None:
            said.append("at the target's limit the load is killed first, and the run ends")
        if _dies_as_one(ref):
            said.append(f"{ref.path} has memory.oom.group: at its limit everything in it is killed")
    return said


def _dies_as_one(ref: CgroupRef) -> bool:
    try:
        return read(ref, "memory.oom.group") == "1"
    except FileNotFoundError:
        return False
