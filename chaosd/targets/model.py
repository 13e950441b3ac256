"""Targets held by identity: a reused pid, inode or interface index is a different target."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.netns import DeviceRef, NetnsRef
from chaosd.kernel.process import ProcessRef


class Life(StrEnum):
    """Which of its processes a target lives by."""

    LEADER = "leader"
    """The first one: a process tree or a container ends with it."""
    ANY = "any"
    """Any one of those it had."""
    NONE = "none"
    """None: a cgroup, a namespace or a device may be empty for a while."""


class Target(msgspec.Struct, frozen=True):
    """One resolved target.

    Args:
        spec: the word for it and nothing else, such as ``container:api``.
        word: what the user wrote, which may stand for others besides: ``container:label=app=api``.
        processes: the processes it had when it was resolved; the first one leads.
        cgroups: the cgroups that are wholly its own, by hierarchy (``""`` is v2, else the
            v1 controller); empty for a bare process that shares its cgroup with others.
        netns: the network namespace its traffic is in; None when its processes are in several.
        own_netns: true when everything in that namespace belongs to the target.
        device: the one interface it is, for ``dev:``.
        manager: who else writes its cgroup values: ``unit:NAME``, ``container:ID`` or nothing.
        life: which of its processes it lives by.
    """

    spec: str
    processes: tuple[ProcessRef, ...] = ()
    cgroups: dict[str, CgroupRef] = {}
    netns: NetnsRef | None = None
    own_netns: bool = False
    device: DeviceRef | None = None
    manager: str = ""
    life: Life = Life.LEADER
    word: str = ""

    @property
    def all_traffic(self) -> bool:
        """Whether it is all traffic of its interfaces, rather than that of some sockets."""
        return self.device is not None or self.own_netns

    def check_alive(self) -> None:
        """Raise ``TargetLostError`` when the target is gone or was replaced by another."""
        lost = self._lost_cgroup() or self._lost_processes() or self._lost_network()
        if lost:
            raise TargetLostError(f"{self.spec} is gone: {lost}")

    def require_processes(self) -> tuple[ProcessRef, ...]:
        """Its processes, for a fault that is nothing without one.

        Raises:
            ChaosdError: it has none, as an empty cgroup or a device.
        """
        if not self.processes:
            raise ChaosdError(
                f"{self.spec} has no processes", hint="start one in it, or name a pid:, unit: or container:"
            )
        return self.processes

    def _lost_cgroup(self) -> str:
        gone = (ref.path for ref in self.cgroups.values() if not ref.alive())
        return next((f"cgroup {path} was removed" for path in gone), "")

    def _lost_processes(self) -> str:
        if not self.processes or self.life is Life.NONE:
            return ""
        if self.life is Life.ANY:
            return "" if any(ref.alive() for ref in self.processes) else "none of its processes is left"
        return "" if self.processes[0].alive() else f"pid {self.processes[0].pid} has ended"

    def _lost_network(self) -> str:
        # the namespace of a process that shares it ends after the process
        if self.device is None and not self.own_netns:
            return ""
        if self.netns is not None and not self.netns.alive():
            return f"network namespace {self.netns.path} was removed"
        if self.device is not None and not self.device.alive():
            return f"no interface {self.device.name}"
        return ""


def proc(pid: int, name: str = "") -> Path:
    """The path of a process's entry in /proc."""
    return Path("/proc", str(pid), name)
