"""Controllers of cgroup v2, enabled for the children of a cgroup and disabled again."""

from __future__ import annotations

import errno
import os

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.kernel.cgroup import CgroupRef, read, write
from chaosd.kernel.cgroup_file import configuration
from chaosd.kernel.edit import MARK, Edit, Undo

DEFAULTS = {
    "cpu.max": "max 100000",
    "cpu.max.burst": "0",
    "cpu.weight": "100",
    "cpu.weight.nice": "0",
    "cpu.idle": "0",
    "cpu.uclamp.min": "0.00",
    "cpu.uclamp.max": "max",
    "cpuset.cpus": "",
    "cpuset.mems": "",
    "cpuset.cpus.exclusive": "",
    "cpuset.cpus.partition": "member",
    "memory.min": "0",
    "memory.low": "0",
    "memory.high": "max",
    "memory.max": "max",
    "memory.oom.group": "0",
    "memory.swap.high": "max",
    "memory.swap.max": "max",
    "memory.zswap.max": "max",
    "memory.zswap.writeback": "1",
    "pids.max": "max",
    "io.max": "",
    "io.weight": "default 100",
    "io.bfq.weight": "default 100",
    "io.latency": "",
}
"""What a v2 control file holds in a new cgroup (Documentation/admin-guide/cgroup-v2.rst)."""


def settings_of(path: str, prefix: str = "") -> list[str]:
    """The control files of a v2 cgroup that somebody has set, whose names begin with ``prefix``."""
    files = {os.path.basename(name): value for name, value in configuration(path).items()}
    return [f"{file} = {value}" for file, value in files.items()
            if file.startswith(prefix) and value != DEFAULTS.get(file, value)]  # fmt: skip


class Controller(Edit, frozen=True, tag="cgroup.controller"):
    """A v2 controller enabled for the children of a cgroup."""

    slow = True

    cgroup: CgroupRef
    name: str

    @property
    def slot(self) -> str:
        """The one controller's place in cgroup.subtree_control."""
        return f"cgroup:{self.cgroup.path}:{self.cgroup.inode}/cgroup.subtree_control:{self.name}"

    def describe(self) -> str:
        """Which controller, where."""
        return f"enable the {self.name} controller for the children of {self.cgroup.path}"

    def apply(self) -> None:
        """Enable it; refused when it is enabled by now, for then it is somebody else's."""
        if self.present():
            raise ForeignStateError(
                f"{self.name} was enabled in {self.cgroup.path} meanwhile", hint="plan again"
            )
        try:
            write(self.cgroup, "cgroup.subtree_control", f"+{self.name}")
        except OSError as error:
            said = f"{self.cgroup.path} cannot enable {self.name} for its children: {error.strerror}"
            raise ChaosdError(said, hint="aim at a target that owns its cgroup") from error

    def revert(self) -> Undo:
        """Disable it, unless somebody has set one of its values in a child, or enabled it further down."""
        if not self.present():
            return Undo.GONE
        children = (entry for entry in os.scandir(self.cgroup.path) if entry.is_dir())
        others = [child.path for child in children if not child.name.startswith(f"{MARK}-")]
        if any(settings_of(child, f"{self.name}.") for child in others):
            return Undo.FOREIGN
        try:
            write(self.cgroup, "cgroup.subtree_control", f"-{self.name}")
        except FileNotFoundError:
            return Undo.GONE
        except OSError as error:
            if error.errno != errno.EBUSY:  # a child has enabled it for its own children
                raise
            return Undo.FOREIGN
        return Undo.DONE

    def present(self) -> bool:
        """Whether it is enabled."""
        try:
            return self.name in read(self.cgroup, "cgroup.subtree_control").split()
        except FileNotFoundError:
            return False
