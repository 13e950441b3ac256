"""``disk.fill``: a file system runs full."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._load import HOST, PROCESS
from chaosd.faults.base import Fault, Planning
from chaosd.kernel import memory
from chaosd.kernel.edit import Edit
from chaosd.kernel.filesystem import Mount, mount_of, opened, shared_by
from chaosd.kernel.load import Fill, Load
from chaosd.kernel.process import ProcessRef
from chaosd.places import run_dir
from chaosd.targets.model import Target
from chaosd.units import Percent, Size

_Path = Annotated[str, msgspec.Meta(description="a folder on it, as the target sees it", pattern="^/")]
_Percent = Annotated[Percent | None, msgspec.Meta(description="how much of it is in use then, as df shows")]
_Leave = Annotated[Size | None, msgspec.Meta(description="how much is left free")]
_Reserve = Annotated[bool, msgspec.Meta(description="take what is reserved for root as well")]
_FOR_THE_JOURNAL = 64 << 20


class _Found(msgspec.Struct, frozen=True):
    root: ProcessRef | None
    mount: Mount
    space: os.statvfs_result


class DiskFill(Fault, frozen=True, kw_only=True):
    """The file system of a folder is filled, by a file that has no name and is gone with its process.

    Everybody on that file system is hit, whoever the target is. What others free meanwhile stays free.
    """

    name: ClassVar[str] = "disk.fill"
    mechanisms: ClassVar = PROCESS

    path: _Path
    percent: _Percent = None
    leave: _Leave = None
    reserve: _Reserve = False

    def check(self) -> list[str]:
        """One of the two must be given."""
        both = (self.percent is None) == (self.leave is None)
        return ["give either percent or leave, such as leave: 100MiB"] if both else []

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One load."""
        found = self._look(target)
        leave, room = self._left(found), self._room(found)
        if room <= 0:
            raise ChaosdError(f"{self.path} is as full already", hint="leave less")
        self._spare(found.mount, leave)
        if found.mount.in_memory and room > memory.available() - memory.floor():
            raise ChaosdError(
                f"{self.path} is in memory, and the host has too little of it", hint="leave more"
            )
        floor = memory.floor() if found.mount.in_memory else 0
        work = Fill(self.path, found.mount.number, found.mount.device, leave, self.reserve, found.root, floor)
        return [Load(at.run, at.index, work)]

    def effect(self, target: Target, at: Planning) -> list[str]:
        """How much is taken, of what, and who else is on it."""
        found = self._look(target)
        mount, space = found.mount, found.space
        others = ", ".join(shared_by(mount)) or "nowhere else"
        taken, left = Size(self._room(found)), Size(self._left(found))
        said = [
            f"{taken} of {mount.source} ({mount.kind}) are taken, {left} left",
            f"everybody who writes there is hit; on this host it is mounted at {others}",
        ]
        kept = (space.f_bfree - space.f_bavail) * space.f_frsize
        if kept and not self.reserve:
            said.append(f"root can still use its reserve of {Size(kept)}: reserve: true takes that, too")
        return said + (["it is in memory: the host has so much less"] if mount.in_memory else [])

    def _look(self, target: Target) -> _Found:
        root = None if target.spec == HOST else target.require_processes()[0]
        with opened(self.path, root) as folder:
            return _Found(root, mount_of(folder, root.pid if root else "self"), os.fstatvfs(folder))

    def _left(self, found: _Found) -> int:
        if self.leave is not None:
            return int(self.leave)
        space = found.space
        usable = space.f_blocks - space.f_bfree + self._free(space)
        return int(usable * (1 - (self.percent or Percent(0)).fraction)) * space.f_frsize

    def _room(self, found: _Found) -> int:
        return max(self._free(found.space) * found.space.f_frsize - self._left(found), 0)

    def _free(self, space: os.statvfs_result) -> int:
        return space.f_bfree if self.reserve else space.f_bavail

    def _spare(self, mount: Mount, leave: int) -> None:
        folder = next(place for place in (run_dir(), *run_dir().parents) if place.exists())
        with opened(str(folder), None) as journal:
            if mount_of(journal).device == mount.device and leave < _FOR_THE_JOURNAL:
                raise ChaosdError(
                    f"{self.path} is on the file system of chaosd's own journal ({folder})",
                    hint=f"leave {Size(_FOR_THE_JOURNAL)} or more",
                )
