"""What the faults on disks share: which disks are meant, and limits of a target's I/O on them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from chaosd.errors import ChaosdError
from chaosd.faults._cgroup import limits, own
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel import blocks, cgroup_io
from chaosd.kernel.cgroup import BLKIO_V1, IO_V2, UNIFIED, CgroupRef, of_process
from chaosd.kernel.cgroup_plan import in_place
from chaosd.kernel.edit import Edit
from chaosd.kernel.systemd import SYSTEMD
from chaosd.kernel.systemd_io import limit_unit
from chaosd.targets.model import Target
from chaosd.units import Size

LADDER = (
    Mechanism("cgroup-v2", (IO_V2,), "io.max of cgroup v2; of a systemd unit through systemd"),
    Mechanism(
        "cgroup-v1", (BLKIO_V1,), "blkio.throttle of cgroup v1: direct writes and reads from the disk alone"
    ),
)


class Throughput(Size):
    """Bytes per second."""

    what = "throughput"
    example = "1MB/s"
    factors = {f"{unit}/s": factor for unit, factor in Size.factors.items()}


def disks(target: Target, path: str, device: str) -> tuple[str, ...]:
    """The numbers of the disks that are meant, such as ``8:0``.

    Args:
        target: whose view of ``path`` counts.
        path: on a file system; or empty.
        device: a name; or empty.

    Raises:
        ChaosdError: there is no such path or device, or no disk behind it.
    """
    if device:
        return (blocks.named(device),)
    alive = (process.pid for process in target.processes if process.alive())
    return blocks.behind(path, next(alive, "self"))


def which(path: str, device: str) -> list[str]:
    """What is wrong with the two fields by which a disk is named."""
    if bool(path) == bool(device):
        return ["give either a path or a device, such as path: /var/lib"]
    return [] if device or path.startswith("/") else [f"path: {path!r} is not absolute"]


def v1_note(at: Planning) -> list[str]:
    """What a user should know of limits of cgroup v1."""
    buffered = "what is written through the page cache is not held back: cgroup v1 does not know whose it is"
    return [buffered] if at.mechanism == "cgroup-v1" else []


def throttled(target: Target, at: Planning, devices: Iterable[str], wanted: cgroup_io.Limits) -> list[Edit]:
    """The edits that limit a target's I/O on some disks.

    Args:
        target: who gets the limits.
        at: the run's facts.
        devices: such as ``8:0``.
        wanted: by the keys of io.max.

    Raises:
        ChaosdError: a tighter limit is in force, or the target has nothing that takes limits.
    """
    v2, devices = at.mechanism == "cgroup-v2", tuple(devices)
    controller = "io" if v2 else "blkio"
    settings = {
        file: "\n".join(f"{device} {cgroup_io.text_of(part)}" for device in devices)
        for file, keys in cgroup_io.FILES.items()
        if (file == "io.max") is v2 and (part := {key: wanted[key] for key in keys if key in wanted})
    }
    ref = own(target, at, controller)
    if ref is None:
        _refuse_escape(target, at)
        return list(limits(target, at, controller, settings, {}))
    _refuse_looser(target, ref, settings)
    if not v2:
        # limits of v1 are each cgroup's own (throtl_pd_init(), block/blk-throttle.c)
        return [edit for part in _tree(ref) for edit in in_place(part, controller, controller, settings)]
    if target.manager.startswith("unit:") and SYSTEMD().ok:
        nodes = {device: blocks.node(device) for device in devices}
        return [*limit_unit(target.manager.removeprefix("unit:"), ref, nodes, wanted)]
    return list(in_place(ref, UNIFIED, controller, settings))


def _tree(ref: CgroupRef) -> list[CgroupRef]:
    return [CgroupRef.at(folder) for folder, _, _ in os.walk(ref.path)]


def _refuse_looser(target: Target, ref: CgroupRef, settings: Mapping[str, str]) -> None:
    for file, value in settings.items():
        for device, wanted in cgroup_io.parts(value):
            had = cgroup_io.limits_there(ref, file, device)
            if tighter := [key for key, bound in wanted.items() if had[key] <= bound]:
                said = (
                    f"{target.spec} is already limited on {blocks.node(device)} to {cgroup_io.text_of(had)}"
                )
                raise ChaosdError(said, hint=f"ask for less {' and '.join(tighter)}")


def _refuse_escape(target: Target, at: Planning) -> None:
    for process in target.processes if at.mechanism == "cgroup-v1" else ():
        home = CgroupRef.at(of_process(process.pid)["blkio"]) if process.alive() else None
        if home is not None and any(cgroup_io.is_limited(home, file) for file in cgroup_io.FILES):
            said = (
                f"process {process.pid} shares {home.path}, whose I/O limits a cgroup below it would escape"
            )
            raise ChaosdError(said, hint="aim at that cgroup, or at its unit or container")
