"""What no fault may touch, and how wide a target reaches.

A fault on any of these takes away the means to end it: pid 1 (the kernel panics when it dies), the
processes that put things back, the way in for the one who would mend it by hand, the engine and
the daemons that every other service of the host waits for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Literal

from chaosd.errors import ChaosdError
from chaosd.kernel import cgroup, launch
from chaosd.kernel.edit import MARK
from chaosd.kernel.process import ProcessRef, read
from chaosd.targets.model import Target
from chaosd.targets.operator import operator_addresses
from chaosd.targets.processes import Seen, ancestors, is_ours, roots, snapshot

_WAY_IN = "the operators' way in"
_ENGINE = "the container engine: all its containers hang on it"
_CORE = "a core daemon: every service, and mending by hand, waits for it"
_DAEMONS: dict[str, str] = {  # by the 15 bytes that the kernel keeps of a name
    "sshd": _WAY_IN,
    "sshd-session": _WAY_IN,  # OpenSSH 9.8 and later
    "sshd-auth": _WAY_IN,
    "dropbear": _WAY_IN,
    "dockerd": _ENGINE,
    "containerd": _ENGINE,
    "containerd-shim": _ENGINE,
    "podman": _ENGINE,
    "conmon": _ENGINE,
    "crio": _ENGINE,
    "kubelet": _ENGINE,
    "systemd": _CORE,
    "systemd-journal": _CORE,
    "systemd-logind": _CORE,
    "systemd-udevd": _CORE,
    "(udev-worker)": _CORE,
    "dbus-daemon": _CORE,
    "dbus-broker": _CORE,
    "dbus-broker-lau": _CORE,
}

__all__ = ["Radius", "is_chaosd", "operator_addresses", "protect", "radius", "shielded"]

Radius = Literal["single-service", "service-cluster", "entire-system"]


def protect(target: Target) -> None:
    """Refuse a target that holds anything protected.

    - pid 1, and every cgroup that holds it: the kernel panics when init dies, and a frozen or
      starved init collects no dead process and starts no rescue.
    - chaosd with its watchdog and all its parents up to the login, and the cgroups they are in:
      frozen, throttled or killed they could put nothing back.
    - sshd, the container engine and systemd's core daemons, where they serve this host: those of a
      container are in a pid namespace of their own, and may be a target like any other.
    - the namespace that chaosd itself is in, by ``netns:``: that is the whole host, and is said so.

    ``host`` and ``dev:`` have no processes and pass; faults on their traffic leave out what
    ``operator_addresses`` returns.

    Raises:
        ChaosdError: it is protected; the message says what it holds and why that matters.
    """
    if target.spec != "host" and _is_our_netns(target):
        raise ChaosdError(f"{target.spec} is protected: it is the host's own namespace", hint="say host")
    mounts = cgroup.hierarchies()
    for key, ref in target.cgroups.items():
        if ref.path == mounts.get(key):
            raise ChaosdError(
                f"{target.spec} is protected: {ref.path} is a root cgroup, which holds every process",
                hint="name a cgroup below it, or say host",
            )
    why = _shield(snapshot())
    for pid in _members(target):
        if reason := why(pid):
            said = f"it is {reason}" if _is_one(target, pid) else f"it holds {reason}"
            raise ChaosdError(f"{target.spec} is protected: {said}", hint="choose a target without it")


def shielded() -> tuple[ProcessRef, ...]:
    """Everything that runs now and is protected, to be spared by a fault on the whole host."""
    table = snapshot()
    why = _shield(table)
    return tuple(seen.ref for seen in table.values() if why(seen.pid))


def _is_our_netns(target: Target) -> bool:
    return target.own_netns and target.netns is not None and is_ours(target.netns)


def _members(target: Target) -> list[int]:
    inside = (pid for ref in target.cgroups.values() for pid in cgroup.members(ref.path))
    return [*(ref.pid for ref in target.processes), *inside]


def _is_one(target: Target, pid: int) -> bool:
    return bool(target.processes) and target.processes[0].pid == pid and not target.cgroups


def _shield(table: dict[int, Seen]) -> Callable[[int], str]:
    parents = {seen.pid for seen in ancestors(os.getpid(), table)}

    def why(pid: int) -> str:
        if pid == 1:
            return "pid 1, the init of this host"
        if (seen := table.get(pid)) is None:
            return ""
        if is_chaosd(seen):
            return f"pid {pid} ({seen.comm}), chaosd itself: it must put everything back"
        if seen.comm in _DAEMONS and _serves_this_host(pid):
            return f"pid {pid} ({seen.comm}), {_DAEMONS[seen.comm]}"
        return f"pid {pid} ({seen.comm}), which chaosd was started from" if pid in parents else ""

    return why


def _serves_this_host(pid: int) -> bool:
    # one that cannot be read belongs to somebody mightier than us, and counts as the host's
    return _pid_namespace(pid) in ("", _pid_namespace(os.getpid()))


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def is_chaosd(seen: Seen) -> bool:
    """Whether a process is chaosd: this one, its watchdog and helpers, a daemon or another run."""
    if (started := launch.current()) is not None and seen.ref == started.process:
        return False  # it has our name only until it begins
    if seen.pid == os.getpid() or seen.comm == MARK or seen.comm.startswith(f"{MARK}-"):
        return True
    try:
        command = read(seen.pid, "cmdline")
    except OSError:  # it has ended, or is closed to us
        return False
    if MARK not in command:  # as most
        return False
    words = command.split("\0")
    runs_module = any(pair == ("-m", MARK) for pair in pairwise(words))
    return runs_module or MARK in (os.path.basename(word) for word in words[:2])


def radius(target: Target) -> Radius:
    """How wide a target reaches: one service, several, or all there are.

    One service is one process tree, unit, container or cgroup without populated slices of its own.
    An interface of the host's namespace carries the traffic of several. ``host``, and what else is
    the whole namespace or the root cgroup, is the entire system.
    """
    if _is_our_netns(target) or set(_paths(target)) & set(cgroup.hierarchies().values()):
        return "entire-system"
    if target.device is not None:
        return "service-cluster" if is_ours(target.device.netns) else "single-service"
    if target.cgroups:
        return "service-cluster" if any(_is_slice(path) for path in _paths(target)) else "single-service"
    trees = roots((ref.pid for ref in target.processes), snapshot())
    return "service-cluster" if len(trees) > 1 else "single-service"


def _paths(target: Target) -> Iterable[str]:
    return [ref.path for ref in target.cgroups.values()]


def _is_slice(path: str) -> bool:
    if path.endswith(".slice"):
        return True
    if path.endswith((".service", ".scope")) or re.search(r"[0-9a-f]{64}", path):
        return False
    children = next(os.walk(path), ("", [], []))[1]
    return sum(bool(cgroup.members(f"{path}/{child}")) for child in children) > 1
