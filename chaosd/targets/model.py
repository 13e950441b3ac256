"""Targets held by identity: a reused pid, inode or interface index is a different target."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaosd.errors import TargetLostError
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.netns import DeviceRef, NetnsRef
from chaosd.kernel.process import ProcessRef


class Target(msgspec.Struct, frozen=True):
    """One resolved target.

    Args:
        spec: the word the user wrote, such as ``container:api``.
        processes: the processes it had when it was resolved; the first one leads.
        cgroups: the cgroups that are wholly its own, by hierarchy (``""`` is v2, else the
            v1 controller); empty for a bare process that shares its cgroup with others.
        netns: the network namespace its traffic is in.
        own_netns: true when everything in that namespace belongs to the target.
        device: the one interface it is, for ``dev:``.
        manager: who else writes its cgroup values: ``unit:NAME``, ``container:ID`` or nothing.
    """

    spec: str
    processes: tuple[ProcessRef, ...] = ()
    cgroups: dict[str, CgroupRef] = {}
    netns: NetnsRef | None = None
    own_netns: bool = False
    device: DeviceRef | None = None
    manager: str = ""

    def check_alive(self) -> None:
        """Raise ``TargetLostError`` when the target is gone or was replaced by another."""
        for ref in self.cgroups.values():
            if not ref.alive():
                raise TargetLostError(f"{self.spec} is gone: cgroup {ref.path} was removed")
        if self.processes and not self.cgroups and not self.processes[0].alive():
            raise TargetLostError(f"{self.spec} is gone: pid {self.processes[0].pid} has ended")
        if self.device is not None and not self.device.alive():
            raise TargetLostError(f"{self.spec} is gone: no interface {self.device.name}")


def proc(pid: int, name: str = "") -> Path:
    """The path of a process's entry in /proc."""
    return Path("/proc", str(pid), name)
