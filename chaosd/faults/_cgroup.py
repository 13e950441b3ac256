"""What the faults that set limits share: in place, through systemd, or in a cgroup of our own."""

from __future__ import annotations

from collections.abc import Iterable

from chaosd.errors import ChaosdError
from chaosd.faults.base import Planning
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, read
from chaosd.kernel.cgroup_plan import enclose, in_place
from chaosd.kernel.edit import MARK, Edit
from chaosd.kernel.process import family
from chaosd.kernel.systemd import SYSTEMD, UnitProperty, set_property
from chaosd.targets.model import Target


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


def limits(
    target: Target, at: Planning, controller: str, settings: dict[str, str], unit: tuple[str, str] = ("", "")
) -> Iterable[Edit]:
    """The edits that put values into force for a target.

    Args:
        target: who gets the limit.
        at: the run's facts.
        controller: the cgroup controller the values belong to.
        settings: control files and values, in the order of writing.
        unit: the same as a systemd property and value, for units that systemd manages.

    Raises:
        ChaosdError: the target has nothing that takes them.
    """
    ref = own(target, at, controller)
    if ref is not None and unit[0] and target.manager.startswith("unit:") and SYSTEMD().ok:
        return [_property(target.manager.removeprefix("unit:"), unit, ref, next(iter(settings)))]
    if ref is not None:
        return in_place(ref, key_of(at, controller), controller, settings)
    processes = family(target.processes)
    if not processes:
        raise ChaosdError(
            f"{target.spec} has no processes to limit", hint="aim at a pid, unit, container or cgroup"
        )
    return enclose(processes, key_of(at, controller), controller, f"{MARK}-{at.run}", settings)


def _property(name: str, unit: tuple[str, str], ref: CgroupRef, file: str) -> UnitProperty:
    return set_property(name, *unit, cgroup=ref, file=file)
