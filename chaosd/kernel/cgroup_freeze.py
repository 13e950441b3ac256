"""Whole cgroups that stand still, and may be let go on in between."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from chaosd.errors import ChaosdError
from chaosd.kernel.cgroup import FREEZERS, CgroupRef, members
from chaosd.kernel.cgroup_file import ControlFile, change, put
from chaosd.kernel.edit import Evidence

_thawed: dict[str, Evidence | None] = {}  # what is frozen at other times, and what it was then


class Freeze(ControlFile, frozen=True, tag="cgroup.freeze"):
    """The control file that freezes a cgroup with all that is below it."""

    scales: ClassVar[bool] = True

    def apply(self) -> None:
        """Freeze it, if it is as it was when this was planned."""
        _thawed.pop(self.slot, None)
        super().apply()

    def scale(self, level: float) -> None:
        """Thaw at 0, freeze at anything above."""
        if level > 0:
            put(self.cgroup, self.file, self.after, self.slot)
            _thawed.pop(self.slot, None)
        elif self.slot not in _thawed:
            _thawed[self.slot] = super().evidence()
            put(self.cgroup, self.file, self.before, self.slot)

    def lost(self) -> str:
        """The cgroup is gone, or somebody else froze or thawed it."""
        if self.slot in _thawed and self.cgroup.alive() and not self.present():
            return ""
        return super().lost()

    def evidence(self) -> Evidence | None:
        """How many processes are frozen, or were before they were let go on."""
        return _thawed[self.slot] if self.slot in _thawed else super().evidence()


def freeze(cgroups: Mapping[str, CgroupRef], pids: Collection[int]) -> Freeze | None:
    """The edit that freezes the cgroup that a target owns; None where none can, or some pids are outside.

    Raises:
        ChaosdError: it is frozen already.
    """
    for key, file in FREEZERS.items():
        if key in cgroups and {*pids} <= {*members(cgroups[key].path)}:
            edit = change(cgroups[key], file, {"cgroup.freeze": "1"}.get(file, "FROZEN"))
            if edit.before == edit.after:
                raise ChaosdError(f"{edit.cgroup.path} is frozen already", hint="thaw it first")
            return Freeze(edit.cgroup, edit.file, edit.before, edit.after)
    return None
