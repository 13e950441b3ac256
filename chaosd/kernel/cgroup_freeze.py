"""Whole cgroups that stand still."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chaosd.errors import ChaosdError
from chaosd.kernel.cgroup import FREEZERS, CgroupRef, members
from chaosd.kernel.cgroup_file import ControlFile, change


def freeze(cgroups: Mapping[str, CgroupRef], pids: Collection[int]) -> ControlFile | None:
    """The edit that freezes the cgroup that a target owns; None where none can, or some pids are outside.

    Raises:
        ChaosdError: it is frozen already.
    """
    for key, file in FREEZERS.items():
        if key in cgroups and {*pids} <= {*members(cgroups[key].path)}:
            edit = change(cgroups[key], file, {"cgroup.freeze": "1"}.get(file, "FROZEN"))
            if edit.before == edit.after:
                raise ChaosdError(f"{edit.cgroup.path} is frozen already", hint="thaw it first")
            return edit
    return None
