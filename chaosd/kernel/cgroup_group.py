"""Cgroups of our own: made, filled and dissolved, with everything in them going back home."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress

from chaosd.errors import ChaosdError, ForeignStateError, TargetLostError
from chaosd.kernel import dial
from chaosd.kernel.cgroup import (
    CgroupRef,
    hierarchies,
    inhabitants,
    of_process,
    opened,
    parent_of,
    read,
    write,
)
from chaosd.kernel.cgroup_file import configuration, counts, evidence_of, put, settle, value_in
from chaosd.kernel.edit import Control, Edit, Evidence, Undo
from chaosd.kernel.process import ProcessRef, family

_PATIENCE = 2.0
_MEMORY_LIMITS = {"memory.high": "max", "memory.max": "max", "memory.limit_in_bytes": "-1"}


class Subgroup(Edit, frozen=True, tag="cgroup.group"):
    """A cgroup ``name`` made below ``parent``, with values set before anything is in it.

    Whatever is in it at the end, whoever was born there, goes to ``home`` (or the parent).
    """

    slow = True

    parent: CgroupRef
    name: str
    home: CgroupRef | None = None
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self.parent.path}/{self.name}"

    @property
    def slot(self) -> str:
        """The directory."""
        return f"cgroup:{self.path}"

    def describe(self) -> str:
        """The directory and the values."""
        values = ", ".join(f"{file} = {value}" for file, value in self.settings)
        return f"make cgroup {self.path}" + (f" with {values}" if values else "")

    def apply(self) -> None:
        """Make it and set its values."""
        try:
            with opened(self.parent) as folder:
                os.mkdir(self.name, dir_fd=folder)
            group = CgroupRef.at(self.path)
            for file, value in self.settings:
                write(group, file, value)
        except FileExistsError:
            raise ForeignStateError(
                f"cgroup {self.path} is there already", hint="chaosd revert --scrub"
            ) from None
        except OSError as error:
            said = f"cgroup {self.path} could not be made with {self.settings}: {error.strerror}"
            raise ChaosdError(said, hint="the cgroup above may have a tighter limit") from error

    def revert(self) -> Undo:
        """Send everything home and remove it, with all that was made below it."""
        return dissolve(self.path, (self.home or self.parent).path)

    def present(self) -> bool:
        """Whether it is there."""
        return os.path.isdir(self.path)

    def lost(self) -> str:
        """Somebody removed it."""
        return "" if self.present() else f"cgroup {self.path} was removed"

    def surroundings(self) -> dict[str, str]:
        """The parent's own settings, and whether this cgroup is there."""
        found = {name: value for name, value in configuration(self.parent.path).items() if value != "cgroup"}
        return found | ({self.path: "cgroup"} if self.present() else {})


class Setting(Edit, frozen=True, tag="cgroup.setting"):
    """A value in a control file of a cgroup of our own; it goes when the cgroup goes.

    ``loose`` is as in ``ControlFile``.
    """

    slow = True

    group: str
    file: str
    value: str
    loose: str = ""

    @property
    def slot(self) -> str:
        """The control file."""
        return f"cgroup:{self.group}/{self.file}"

    def describe(self) -> str:
        """The file and the value."""
        return f"write {self.group}/{self.file}: {self.value}"

    def apply(self) -> None:
        """Write the value."""
        try:
            self._write()
        except OSError as error:
            said = f"{self.group}/{self.file} does not take {self.value}: {error.strerror}"
            raise ChaosdError(said, hint="a cgroup above may have a tighter limit") from error

    def _write(self) -> None:
        value = dial.wanted(self.slot, self.loose, self.value)
        put(CgroupRef.at(self.group), self.file, value, self.slot)

    @property
    def control(self) -> Control:
        """Any strength, where it is known what none would be."""
        return "dial" if self.loose else ""

    def scale(self, strength: float, share: float) -> None:
        """Tighten or loosen it."""
        if dial.turn(self.slot, strength) and self.present():
            self._write()

    def revert(self) -> Undo:
        """Nothing: nobody is left in the cgroup when its ``Subgroup`` is put back."""
        settle(self.slot)
        return Undo.GONE

    def present(self) -> bool:
        """Whether the file holds our value."""
        try:
            now = read(CgroupRef.at(self.group), self.file)
        except FileNotFoundError:
            return False
        if self.loose and dial.lies_between(value_in(self.file, now), self.loose, self.value):
            return True
        return value_in(self.file, now) == value_in(self.file, self.value)

    def lost(self) -> str:
        """Somebody changed it."""
        return "" if self.present() else f"{self.group}/{self.file} was changed by somebody else"

    def evidence(self) -> Evidence | None:
        """What the kernel counted in the cgroup; everything there is ours."""
        if not counts(self.file) or not os.path.isdir(self.group):
            return None
        return evidence_of(CgroupRef.at(self.group), self.file)


def dissolve(path: str, home: str) -> Undo:
    """Move every process in a cgroup, and in those below it, to ``home`` and remove them all.

    Raises:
        OSError: processes kept appearing in it for 2 s, or the kernel refused.
    """
    if not os.path.isdir(path):
        return Undo.GONE
    _lift(path)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            for folder, _, _ in os.walk(path, topdown=False):
                _empty(folder, home)
                os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        if not os.path.isdir(path):
            return Undo.DONE


def _lift(path: str) -> None:
    # With v1's OOM killer off, a process above the limit sleeps on the cgroup that refused it, also
    # after it has been moved; what wakes it is a higher limit (memcg1_oom_recover(), mm/memcontrol-v1.c).
    for file, unlimited in _MEMORY_LIMITS.items():
        with suppress(FileNotFoundError):
            write(CgroupRef.at(path), file, unlimited)


def _empty(folder: str, home: str) -> None:
    for pid in inhabitants(folder):
        send(pid, home)


def send(pid: int, path: str) -> bool:
    """Move a process with all its threads to a cgroup, or to the nearest one above that still exists.

    Returns:
        False when the process has ended.
    """
    while not os.path.isdir(path) and path != parent_of(path):
        path = parent_of(path)
    try:
        with open(f"{path}/cgroup.procs", "w", encoding="ascii") as stream:
            stream.write(str(pid))
    except ProcessLookupError:
        return False
    return True


class Move(Edit, frozen=True, tag="cgroup.move"):
    """Processes, and those they have made meanwhile, moved from cgroup ``home`` to the one at ``group``."""

    slow = True

    processes: tuple[ProcessRef, ...]
    home: CgroupRef
    group: str

    @property
    def slot(self) -> str:
        """The leading process's place in this hierarchy."""
        leader = self.processes[0]
        return f"cgroup-of:{leader.pid}.{leader.start_time}@{_mount_of(self.group)}"

    def describe(self) -> str:
        """Which processes, from where to where."""
        pids = ", ".join(str(process.pid) for process in self.processes)
        return f"move {pids} from {self.home.path} to {self.group}"

    def apply(self) -> None:
        """Move the processes, then their descendants, until no new one is found at home."""
        if not any(process.alive() for process in self.processes):
            raise TargetLostError(f"process {self.processes[0].pid} has ended")
        try:
            self._drive(self._at_home, self.group)
        except OSError as error:
            said = f"{self.group} does not take process {self.processes[0].pid}: {error.strerror}"
            raise ChaosdError(said, hint="aim at a target that owns its cgroup") from error

    def revert(self) -> Undo:
        """Move those that are still in our cgroup back home, and no one stays behind waiting for memory."""
        _lift(self.group)
        if self._drive(self._ours, self.home.path):
            return Undo.DONE
        strayed = any(p.alive() and self._place(p.pid) != self.home.path for p in self.processes)
        return Undo.FOREIGN if strayed else Undo.GONE

    def present(self) -> bool:
        """Whether one of them is in our cgroup."""
        return bool(self._ours())

    def lost(self) -> str:
        """They have ended, or somebody moved them."""
        if not any(process.alive() for process in self.processes):
            return f"process {self.processes[0].pid} has ended"
        return "" if self.present() else f"process {self.processes[0].pid} was moved by somebody else"

    def surroundings(self) -> dict[str, str]:
        """Where each of them is."""
        places = {process.pid: self._place(process.pid) for process in self.processes if process.alive()}
        return {f"cgroup of {pid} in {_mount_of(self.group)}": place for pid, place in places.items()}

    def _drive(self, waiting: Callable[[], list[int]], path: str) -> bool:
        # they may fork meanwhile; one that is just dying stays where it is until it is a zombie
        deadline, moved = time.monotonic() + _PATIENCE, False
        while pids := waiting():
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"processes {pids} stay where they are")
            moved |= bool(sum(send(pid, path) for pid in pids))
        return moved

    def _at_home(self) -> list[int]:
        return [p.pid for p in family(self.processes) if self._place(p.pid) == self.home.path]

    def _ours(self) -> list[int]:
        return [
            p.pid for p in family(self.processes) if f"{self._place(p.pid)}/".startswith(f"{self.group}/")
        ]

    def _place(self, pid: int) -> str:
        try:
            places = of_process(pid)
        except ProcessLookupError:
            return ""
        return places.get(_key_of(self.group), "")


def _key_of(path: str) -> str:
    mounts = hierarchies()
    return next(key for key, point in mounts.items() if path == point or path.startswith(f"{point}/"))


def _mount_of(path: str) -> str:
    return hierarchies()[_key_of(path)]
