"""Control files of cgroups: values changed in place and put back, never over somebody else's."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import ClassVar

from chaosd.errors import ChaosdError, ForeignStateError, TargetLostError
from chaosd.kernel import dial, pseudo
from chaosd.kernel.cgroup import CgroupRef, members, read, write
from chaosd.kernel.edit import MARK, Control, Edit, Evidence, Undo

COUNTERS = {
    "cpu.max": ("cpu.stat", "nr_throttled", "throttled periods"),
    "cpu.cfs_quota_us": ("cpu.stat", "nr_throttled", "throttled periods"),
    "memory.high": ("memory.events", "high", "limit hits"),
    "memory.max": ("memory.events", "max", "limit hits"),
    "memory.limit_in_bytes": ("memory.failcnt", "", "limit hits"),
    "pids.max": ("pids.events", "max", "limit hits"),
}
"""Where the kernel counts what a control file did: file, key in it, unit."""

_COUNTS_PROCESSES = {"cpuset.cpus", "cgroup.freeze", "freezer.state"}
_FROZEN = {"cgroup.freeze": ("cgroup.events", "frozen 1"), "freezer.state": ("freezer.state", "FROZEN")}
_RECLAIMS = {"memory.high", "memory.max", "memory.limit_in_bytes"}
_VOLATILE = (".pressure", "usage", "failcnt", ".peak", "usage_in_bytes", "_level")
_ACTIONS = {
    "cgroup.procs", "cgroup.threads", "tasks", "cgroup.kill", "cgroup.event_control", "memory.reclaim",
    "memory.force_empty", "devices.allow", "devices.deny", "cgroup.pressure", "blkio.reset_stats",
}  # fmt: skip
_WRITE_TIMEOUT = 2.0  # well under what the watchdog gives a silent engine

_base: dict[str, int] = {}
_writers: dict[str, threading.Thread] = {}


def cpus_of(text: str) -> set[int]:
    """The CPUs of a list in the kernel's form, such as ``0-2,5``."""
    spans = (part.partition("-") for part in text.split(",") if part.strip())
    return {cpu for low, _, high in spans for cpu in range(int(low), int(high or low) + 1)}


def online() -> str:
    """The CPUs of this host, in the same form."""
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
        return file.read().strip()


def value_in(file: str, text: str) -> str:
    """The value that a control file's text stands for, in one normal form.

    The kernel rounds memory limits down to pages, writes CPU lists its own way, shows the v1
    freezer on its way as FREEZING, and puts counters beside the value of memory.oom_control.
    """
    text = text.strip()
    if file in _RECLAIMS and text.isdigit():
        return str(int(text) // mmap.PAGESIZE * mmap.PAGESIZE)
    if file in ("cpuset.cpus", "cpuset.mems"):
        return ",".join(map(str, sorted(cpus_of(text))))
    if file == "memory.oom_control":
        return text.split()[1] if " " in text else text
    return " ".join(text.split()).replace("FREEZING", "FROZEN")


def counted(ref: CgroupRef, file: str) -> int:
    """How often the limit in a control file has acted since the cgroup was made; 0 where not counted."""
    where, key, _ = COUNTERS.get(file, ("", "", ""))
    lines = _told(ref, where).splitlines() if where else []
    return next((int(line.split()[-1]) for line in lines if line.startswith(key)), 0)


def evidence_of(ref: CgroupRef, file: str, base: int = 0) -> Evidence:
    """What the kernel counted for one control file, less the ``base`` read before."""
    if file in _COUNTS_PROCESSES:
        found = len(members(ref.path))
        return Evidence(found, found if _in_force(ref, file) else 0, unit="processes")
    hits = max(counted(ref, file) - base, 0)
    return Evidence(hits, hits, unit=COUNTERS[file][2])


def _in_force(ref: CgroupRef, file: str) -> bool:
    where, word = _FROZEN.get(file, ("", ""))
    return not where or word in _told(ref, where)


def _told(ref: CgroupRef, file: str) -> str:
    try:
        return read(ref, file)
    except FileNotFoundError:
        return ""


def counts(file: str) -> bool:
    """Whether a control file's effect can be counted."""
    return file in COUNTERS or file in _COUNTS_PROCESSES


def settle(slot: str) -> None:
    """Wait for a write that timed out before; nothing may be put back while it can still land.

    Raises:
        TimeoutError: it has not ended.
    """
    writer = _writers.get(slot)
    if writer is None:
        return
    writer.join(_WRITE_TIMEOUT)
    if writer.is_alive():
        raise TimeoutError(errno.ETIMEDOUT, f"the kernel is still reclaiming for the write to {slot}")
    del _writers[slot]


def put(ref: CgroupRef, file: str, text: str, slot: str) -> None:
    """Write a control file without ever hanging the caller.

    Lowering a memory limit reclaims inside write(2), for as long as it makes progress (mm/memcontrol.c,
    memory_high_write and mem_cgroup_resize_max). O_NONBLOCK skips that on kernels that know it; on
    others the write goes on in a thread of this process after the timeout. v2 has the limit set
    before it reclaims. A thread and not a child: SIGKILL ends the reclaim, and the journal's lock
    is let go only after every thread of its owner is gone, so that no write can land after an undo.

    Raises:
        OSError: what the kernel answered.
        TimeoutError: no answer in 2 s.
    """
    settle(slot)
    errors: list[OSError] = []
    writer = threading.Thread(target=_write, args=(ref, file, text, errors), daemon=True)
    if file not in _RECLAIMS:
        writer.run()
    else:
        _writers[slot] = writer
        writer.start()
        writer.join(_WRITE_TIMEOUT)
    if errors:
        raise errors[0]
    if not writer.is_alive():
        _writers.pop(slot, None)
    elif file == "memory.limit_in_bytes":
        raise TimeoutError(errno.ETIMEDOUT, f"the kernel could not reclaim enough in {_WRITE_TIMEOUT:g} s")


def _write(ref: CgroupRef, file: str, text: str, errors: list[OSError]) -> None:
    try:
        write(ref, file, text)
    except OSError as error:
        errors.append(error)


def _is_configuration(entry: os.DirEntry[str]) -> bool:
    if entry.name in _ACTIONS or entry.name.endswith(_VOLATILE) or not entry.is_file():
        return False
    return entry.stat().st_mode & 0o600 == 0o600


def configuration(path: str) -> dict[str, str]:
    """Every control file of a cgroup that holds a setting, and the marked cgroups right below it."""
    found = {}
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except FileNotFoundError:
        return {}
    for entry in entries:
        if entry.is_dir() and entry.name.startswith(f"{MARK}-"):
            found[entry.path] = "cgroup"
        elif _is_configuration(entry):
            found |= _reading(entry)
    return found


def _reading(entry: os.DirEntry[str]) -> dict[str, str]:
    try:
        return {entry.path: value_in(entry.name, pseudo.read(entry.path))}
    except OSError:  # some refuse to be read in some cgroups (EOPNOTSUPP, EINVAL)
        return {}


class ControlFile(Edit, frozen=True, tag="cgroup.file"):
    """A value in a control file of a cgroup that stays where it is; ``before`` is what it held.

    With ``loose``, the value from which on it is felt, it can be tightened little by little.
    """

    slow = True

    cgroup: CgroupRef
    file: str
    before: str
    after: str
    loose: str = ""

    hints: ClassVar = {
        errno.EBUSY: "the kernel cannot reclaim that much: choose a higher limit",
        errno.EINVAL: "a cgroup above or below it has a limit that contradicts",
        errno.EACCES: "only root may write it",
    }

    @property
    def slot(self) -> str:
        """The control file of this very cgroup."""
        return f"cgroup:{self.cgroup.path}:{self.cgroup.inode}/{self.file}"

    def describe(self) -> str:
        """The file and both values."""
        return f"write {self.cgroup.path}/{self.file}: {self.before or 'nothing'} -> {self.after}"

    def apply(self) -> None:
        """Write the value, if the file still holds what it held when this was planned."""
        try:
            now = self._now()
        except FileNotFoundError:
            raise TargetLostError(f"cgroup {self.cgroup.path} is gone, or has no {self.file}") from None
        if now != self._normal(self.before):
            raise ForeignStateError(
                f"{self.cgroup.path}/{self.file} was changed to {now or 'nothing'} by somebody else",
                hint="plan again",
            )
        _base[self.slot] = counted(self.cgroup, self.file)
        try:
            put(self.cgroup, self.file, self._wanted(), self.slot)
        except OSError as error:
            said = f"{self.cgroup.path}/{self.file} does not take {self.after}: {error.strerror}"
            raise ChaosdError(said, hint=self.hints.get(error.errno or 0, "")) from error

    def _wanted(self) -> str:
        return dial.wanted(self.slot, self.loose, self.after)

    @property
    def control(self) -> Control:
        """Any strength, where it is known what none would be."""
        return "dial" if self.loose else ""

    def scale(self, strength: float, share: float) -> None:
        """Tighten or loosen it; in a file that somebody else has written to, nothing is changed."""
        if dial.turn(self.slot, strength) and self.present():
            put(self.cgroup, self.file, self._wanted(), self.slot)

    def revert(self) -> Undo:
        """Write the old value back, unless somebody else has written since."""
        settle(self.slot)
        try:
            now = self._now()
            if now == self._normal(self.before):
                return Undo.GONE
            if not self._ours(now):
                return Undo.FOREIGN
            put(self.cgroup, self.file, self.before, self.slot)
        except FileNotFoundError:
            return Undo.GONE
        return Undo.DONE

    def present(self) -> bool:
        """Whether the file holds our value."""
        try:
            return self._ours(self._now())
        except FileNotFoundError:
            return False

    def _ours(self, now: str) -> bool:
        exact = now == self._normal(self.after)
        return exact or bool(self.loose and dial.lies_between(now, self.loose, self.after))

    def lost(self) -> str:
        """The cgroup is gone, or another value stands there."""
        if not self.cgroup.alive():
            return f"cgroup {self.cgroup.path} was removed"
        return "" if self.present() else f"{self.cgroup.path}/{self.file} was changed by somebody else"

    def evidence(self) -> Evidence | None:
        """Events since ``apply`` in this process."""
        if not counts(self.file) or self.slot not in _base:
            return None
        return evidence_of(self.cgroup, self.file, _base[self.slot])

    def surroundings(self) -> dict[str, str]:
        """Every setting of the cgroup."""
        return configuration(self.cgroup.path)

    def _now(self) -> str:
        return self._normal(read(self.cgroup, self.file))

    def _normal(self, text: str) -> str:
        return value_in(self.file, text)


def change(cgroup: CgroupRef, file: str, after: str) -> ControlFile:
    """The edit that sets a control file, its old value read now.

    Raises:
        ChaosdError: the cgroup has no such file.
    """
    try:
        return ControlFile(cgroup, file, value_in(file, read(cgroup, file)), value_in(file, after))
    except FileNotFoundError:
        raise ChaosdError(
            f"{cgroup.path} has no {file}",
            hint="the root cgroup has no limits; elsewhere the cgroup above must enable the controller",
        ) from None
