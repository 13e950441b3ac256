"""What a cgroup may read and write of a disk: io.max (v2) and blkio.throttle.* (v1), a line for each.

v2 keeps all four limits of a device in one line of one file; v1 has a file for each. Here both are written
as in io.max, such as ``rbps=1048576 wbps=max``, with those keys that the file has.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from chaosd.errors import ChaosdError, ForeignStateError, TargetLostError
from chaosd.kernel.cgroup import CgroupRef, read, write
from chaosd.kernel.cgroup_file import configuration
from chaosd.kernel.cgroup_meter import Meter
from chaosd.kernel.edit import Control, Edit, Evidence, Undo

FILES = {
    "io.max": ("rbps", "wbps", "riops", "wiops"),
    "blkio.throttle.read_bps_device": ("rbps",),
    "blkio.throttle.write_bps_device": ("wbps",),
    "blkio.throttle.read_iops_device": ("riops",),
    "blkio.throttle.write_iops_device": ("wiops",),
}
"""The control files and the limits in each (cgroup-v2.rst, cgroup-v1/blkio-controller.rst)."""

_STEPS = 64
_steps: dict[str, int] = {}
_meters: dict[str, Meter] = {}

Limits = dict[str, float]
"""By the keys of io.max; infinite where there is none."""


def text_of(limits: Limits) -> str:
    """Limits as io.max has them."""
    said = ((key, "max" if value == float("inf") else int(value)) for key, value in limits.items())
    return " ".join(f"{key}={value}" for key, value in said)


def limits_in(text: str) -> Limits:
    """The limits that ``text_of`` wrote."""
    pairs = (pair.split("=") for pair in text.split())
    return {key: float("inf") if value == "max" else float(value) for key, value in pairs}


def limits_of(cgroup: CgroupRef, file: str, device: str) -> Limits:
    """What a control file says of a device.

    Raises:
        FileNotFoundError: no such file, or the cgroup is gone.
    """
    lines = (line.split(" ", 1) for line in read(cgroup, file).splitlines())
    found = next((rest for name, rest in lines if name == device), "")
    if found and "=" not in found:
        found = f"{FILES[file][0]}={found}"
    return _none(file) | limits_in(found)


def limits_there(cgroup: CgroupRef, file: str, device: str) -> Limits:
    """The same, with no limits where there is no such file."""
    try:
        return limits_of(cgroup, file, device)
    except FileNotFoundError:
        return _none(file)


def is_limited(cgroup: CgroupRef, file: str) -> bool:
    """Whether a control file that a cgroup may have limits any device."""
    try:
        return bool(read(cgroup, file))
    except FileNotFoundError:
        return False


class DeviceLimit(Edit, frozen=True, tag="cgroup.device"):
    """The limits of one device in a control file; those of other devices stay as they are.

    Args:
        path: of the cgroup.
        inode: of the cgroup; 0 for one that the run makes, in which the limits go when it goes.
        file: the control file.
        device: such as ``8:0``.
        before, after: the limits, as ``text_of`` has them.
    """

    slow = True

    path: str
    inode: int
    file: str
    device: str
    before: str
    after: str

    hints: ClassVar = {
        errno.ENODEV: "the kernel limits whole disks alone",
        errno.EOPNOTSUPP: "needs CONFIG_BLK_DEV_THROTTLING",
    }

    @property
    def slot(self) -> str:
        """The line of the device in the control file of this very cgroup."""
        return f"cgroup:{self.path}:{self.inode}/{self.file}:{self.device}"

    def describe(self) -> str:
        """The file, the device and both values."""
        was = f"{self.before} -> " if self.inode else ""
        return f"write {self.path}/{self.file}: {self.device} {was}{self.after}"

    def apply(self) -> None:
        """Write the limits, if the line still says what it said when this was planned."""
        try:
            now = self._now()
        except FileNotFoundError:
            raise TargetLostError(f"cgroup {self.path} is gone, or has no {self.file}") from None
        if now != self.before:
            said = f"{self.path}/{self.file} was changed to {self.device} {now} by somebody else"
            raise ForeignStateError(said, hint="plan again")
        _meters[self.slot] = Meter(self._cgroup(), self.device)
        try:
            self._put(self._at(_steps.setdefault(self.slot, _STEPS)))
        except OSError as error:
            said = f"{self.path}/{self.file} does not take {self.device} {self.after}: {error.strerror}"
            raise ChaosdError(said, hint=self.hints.get(error.errno or 0, "")) from error

    def revert(self) -> Undo:
        """Write the line of before, unless somebody else has written since; others are left as they are."""
        _steps.pop(self.slot, None)
        _meters.pop(self.slot, None)
        if not self.inode:
            return Undo.GONE
        try:
            now = self._now()
            if now == self.before:
                return Undo.GONE
            if now not in self._ours():
                return Undo.FOREIGN
            self._put(self.before)
        except FileNotFoundError:
            return Undo.GONE
        return Undo.DONE

    @property
    def control(self) -> Control:
        """Any strength."""
        return "dial"

    def scale(self, strength: float, share: float) -> None:
        """Let the limit be looser: at 0.5 twice as high as planned, at 0 what it was before.

        A 64th is the smallest difference, so that a process which knows nothing but this edit can tell
        whether a limit is ours.
        """
        _steps[self.slot] = round(strength * _STEPS)
        if self.slot in _meters:  # it is applied
            self._put(self._at(_steps[self.slot]))

    def present(self) -> bool:
        """Whether the line holds our limits."""
        try:
            now = self._now()
        except FileNotFoundError:
            return False
        return now in ({self._at(_steps[self.slot])} if self.slot in _steps else self._ours())

    def lost(self) -> str:
        """Another value stands there, or the cgroup is gone."""
        said = f"{self.path}/{self.file} was changed by somebody else, or the cgroup is gone"
        return "" if self.present() else said

    def evidence(self) -> Evidence | None:
        """The I/O since ``apply`` in this process, and how much of it came as fast as it might."""
        meter = _meters.get(self.slot)
        if meter is None:
            return None
        tighter = self._changed(limits_in(self._at(_steps.get(self.slot, _STEPS))))
        try:
            return meter.evidence(tighter)
        except FileNotFoundError:
            return None

    def surroundings(self) -> dict[str, str]:
        """Every setting of the cgroup, of one that is not ours."""
        return configuration(self.path) if self.inode else {}

    def _changed(self, limits: Limits) -> Limits:
        was, will = limits_in(self.before), limits_in(self.after)
        return {key: value for key, value in limits.items() if was[key] != will[key]}

    def _at(self, step: int) -> str:
        was, will = limits_in(self.before), limits_in(self.after)
        kept = {key: value for key, value in will.items() if not step or value == was[key]}
        scaled = {key: min(was[key], will[key] * _STEPS // step) for key in will.keys() - kept.keys()}
        return text_of({key: scaled.get(key, was[key]) for key in was})

    def _ours(self) -> set[str]:
        return {self._at(step) for step in range(1, _STEPS + 1)} - {self.before}

    def _cgroup(self) -> CgroupRef:
        return CgroupRef(self.path, self.inode) if self.inode else CgroupRef.at(self.path)

    def _now(self) -> str:
        return text_of(limits_of(self._cgroup(), self.file, self.device))

    def _put(self, text: str) -> None:
        value = text if self.file == "io.max" else text.partition("=")[2].replace("max", "0")
        write(self._cgroup(), self.file, f"{self.device} {value}")


def parts(value: str) -> list[tuple[str, Limits]]:
    """Devices and their limits, from lines as in io.max."""
    lines = (line.partition(" ") for line in value.splitlines())
    return [(device, limits_in(limits)) for device, _, limits in lines]


def changes(cgroup: CgroupRef, file: str, value: str, *, there: bool = True) -> list[DeviceLimit]:
    """The edits that set lines of a control file; what a line does not name stays as it is.

    Args:
        cgroup: which.
        file: the control file.
        value: the lines, one for each device.
        there: false while the cgroup has no such file yet; then it will say nothing at first.

    Raises:
        ChaosdError: the cgroup has no such file.
    """
    found = []
    for device, wanted in parts(value):
        try:
            had = limits_of(cgroup, file, device) if there else _none(file)
        except FileNotFoundError:
            raise ChaosdError(
                f"{cgroup.path} has no {file}", hint="the root cgroup has no limits: aim at a part of it"
            ) from None
        after = text_of(had | wanted)
        found.append(DeviceLimit(cgroup.path, cgroup.inode, file, device, text_of(had), after))
    return [edit for edit in found if edit.before != edit.after]


def settings(group: str, file: str, value: str) -> list[DeviceLimit]:
    """The same for a cgroup that the run makes."""
    none = _none(file)
    return [
        DeviceLimit(group, 0, file, device, text_of(none), text_of(none | wanted))
        for device, wanted in parts(value)
    ]


def _none(file: str) -> Limits:
    return dict.fromkeys(FILES[file], float("inf"))
