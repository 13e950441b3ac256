"""The processes of a target as eBPF programs are to know them."""

from __future__ import annotations

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import cgroup
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.tasks import Members
from chaosd.targets.model import Target
from chaosd.targets.protect import shielded


def members(target: Target) -> Members:
    """The target's processes for eBPF: its v2 cgroup where it has one, else a set of its own.

    Of the host it is everybody but those that no fault may touch.

    Raises:
        ChaosdError: there is no cgroup v2, or nothing that could make a call.
    """
    root = cgroup.hierarchies().get(cgroup.UNIFIED)
    if root is None:
        raise UnsupportedError("no cgroup v2 is mounted", hint="mount -t cgroup2 none /sys/fs/cgroup/unified")
    if target.spec == "host":
        return Members(CgroupRef.at(root), entire=True, spared=shielded())
    if own := target.cgroups.get(cgroup.UNIFIED):
        return Members(own, entire=True)
    if target.device is not None:
        raise ChaosdError(f"{target.spec} has no processes of its own", hint="aim at a process or a unit")
    folder = next((ref.path for ref in target.cgroups.values()), "")
    if not folder:
        target.require_processes()
    return Members(CgroupRef.at(root), entire=False, processes=target.processes, folder=folder)
