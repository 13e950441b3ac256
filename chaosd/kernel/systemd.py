"""Resource limits of units that systemd manages, set through systemd itself, for this boot only.

systemd re-applies its own values to a unit's cgroup on daemon-reload, so that a value written
past it would not last; and the one it knows must be put back through it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from msgspec.structs import replace

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.kernel import dial
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.cgroup_file import configuration, counted, counts, cpus_of, evidence_of
from chaosd.kernel.edit import Control, Edit, Evidence, Undo

CONTROL = "/run/systemd/system.control"
"""Where ``systemctl set-property --runtime`` keeps its drop-ins (systemd.unit(5))."""

_TIMEOUT = 4.0  # under what the watchdog gives a silent engine
_SHOWN = {"CPUQuota": "CPUQuotaPerSecUSec", "CPUQuotaPeriodSec": "CPUQuotaPeriodUSec"}
_PERIOD = "100ms"  # what systemd uses where none is set (systemd.resource-control(5))
_base: dict[str, int] = {}


@capability("systemd")
def SYSTEMD() -> Verdict:  # noqa: N802 - a capability reads as a constant
    """Whether systemd manages this host (sd_booted(3)) and answers."""
    if not os.path.isdir("/run/systemd/system"):
        return Verdict(False, "systemd is not the init of this host", "boot with systemd")
    try:
        systemctl("show", "--property=Version")
    except ChaosdError as error:
        return Verdict(False, error.message, "run as root on the host")
    return Verdict(True)


def systemctl(*words: str) -> str:
    """What systemctl prints.

    Raises:
        ChaosdError: it failed, is not there, or took over 4 s.
    """
    # dies with its caller, so that no change of a dead engine lands after it was put back
    command = ["setpriv", "--pdeathsig", "KILL", "systemctl", "--no-ask-password", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise ChaosdError(f"systemctl {words[0]}: {error}") from error
    if done.returncode:
        said = done.stderr.strip() or f"status {done.returncode}"
        raise ChaosdError(f"systemctl {' '.join(words)}: {said.splitlines()[-1]}")
    return done.stdout.strip()


def same(key: str, one: str, other: str) -> bool:
    """Whether two values of a property mean the same; systemd writes them in its own form."""
    if key == "AllowedCPUs":
        return cpus_of(one.replace(" ", ",")) == cpus_of(other.replace(" ", ","))
    if key == "CPUQuotaPeriodSec":
        return _microseconds(one or _PERIOD) == _microseconds(other or _PERIOD)
    try:
        return float(one.rstrip("%")) == float(other.rstrip("%"))
    except ValueError:
        return one == other


def assigned(text: str, key: str) -> str | None:
    """The last value that a drop-in's text gives a key."""
    values = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith(f"{key}=")]
    return values[-1] if values else None


def set_arguments(unit: str, assignments: Sequence[str]) -> tuple[str, ...]:
    """The words for systemctl that set properties until the next boot."""
    return ("set-property", "--runtime", "--", unit, *assignments)


class UnitProperty(Edit, frozen=True, tag="systemd.property"):
    """A property of a unit; ``dropin`` is the text of its runtime drop-in before, if there was one.

    ``before`` is the property's value as ``systemctl show`` gave it, in the form that an
    assignment takes. ``cgroup`` and ``file`` say where the kernel counts the effect. ``loose`` is as in
    ``ControlFile``.
    """

    unit: str
    key: str
    before: str
    after: str
    dropin: str | None = None
    cgroup: CgroupRef | None = None
    file: str = ""
    loose: str = ""

    @property
    def path(self) -> str:
        """The drop-in that systemd writes."""
        return f"{CONTROL}/{self.unit}.d/50-{self.key}.conf"

    @property
    def slot(self) -> str:
        """The property of the unit."""
        return f"systemd:{self.unit}/{self.key}"

    def describe(self) -> str:
        """The command."""
        return f"systemctl {' '.join(self._setting(self.after))}"

    def apply(self) -> None:
        """Set it, if its drop-in is what it was when this was planned."""
        if _text(self.path) != self.dropin:
            raise ForeignStateError(f"{self.path} was changed by somebody else", hint="plan again")
        if self.cgroup is not None:
            _base[self.slot] = counted(self.cgroup, self.file)
        self._set()

    def _set(self) -> None:
        value = dial.wanted(self.slot, self.loose, self.after)
        systemctl(*self._setting(value))

    @property
    def control(self) -> Control:
        """Any strength, where it is known what none would be."""
        return "dial" if self.loose else ""

    def scale(self, strength: float, share: float) -> None:
        """Tighten or loosen it."""
        if dial.turn(self.slot, strength) and self.present():
            self._set()

    def revert(self) -> Undo:
        """Set the old value, then put the drop-in back and let systemd read its files again."""
        # systemd answers in turn: what was asked before this is in the drop-in after it
        loaded = systemctl("show", "--property=LoadState", "--value", "--", self.unit) == "loaded"
        now = _text(self.path)
        if now == self.dropin:
            return Undo.GONE
        if not self._ours(now):
            return Undo.FOREIGN
        if loaded:
            systemctl(*self._setting(self.before))
        _restore(self.path, self.dropin)
        systemctl("daemon-reload")
        return Undo.DONE

    def present(self) -> bool:
        """Whether the drop-in with our value is there."""
        now = _text(self.path)
        return now != self.dropin and self._ours(now)

    def lost(self) -> str:
        """Somebody changed it."""
        return "" if self.present() else f"{self.key} of {self.unit} was changed by somebody else"

    def evidence(self) -> Evidence | None:
        """Events in the unit's cgroup since ``apply`` in this process."""
        if self.cgroup is None or self.slot not in _base or not counts(self.file):
            return None
        return evidence_of(self.cgroup, self.file, _base[self.slot])

    def surroundings(self) -> dict[str, str]:
        """The drop-in, and every setting of the unit's cgroup."""
        found = configuration(self.cgroup.path) if self.cgroup is not None else {}
        return found | {self.path: _text(self.path) or ""}

    def _setting(self, value: str) -> tuple[str, ...]:
        return set_arguments(self.unit, [f"{self.key}={line}" for line in value.split("\n")])

    def _ours(self, text: str | None) -> bool:
        value = assigned(text or "", self.key)
        if value is not None and self.loose and dial.lies_between(value, self.loose, self.after):
            return True
        # a revert that was cut short has set the old value and not yet put the drop-in back
        return value is not None and (same(self.key, value, self.after) or same(self.key, value, self.before))


def set_properties(unit: str, values: dict[str, str], cgroup: CgroupRef, file: str) -> list[UnitProperty]:
    """The edits that set properties of a unit, their former state read now.

    Those that have the value already are left out; the last one counts the effect, by ``file``.
    """
    edits = [_property(unit, key, value) for key, value in values.items()]
    edits = [edit for edit in edits if not same(edit.key, edit.before, edit.after)]
    return [*edits[:-1], *(replace(edit, cgroup=cgroup, file=file) for edit in edits[-1:])]


def _property(unit: str, key: str, value: str) -> UnitProperty:
    shown = _SHOWN.get(key, key)
    before = assignment(key, systemctl("show", f"--property={shown}", "--value", "--", unit))
    return UnitProperty(unit, key, before, value, dropin(unit, key))


def dropin(unit: str, key: str) -> str | None:
    """The text of the drop-in that systemd keeps a runtime property of a unit in; None when there is none."""
    return _text(f"{CONTROL}/{unit}.d/50-{key}.conf")


def assignment(key: str, shown: str) -> str:
    """A property as ``systemctl show`` prints it, in the form that an assignment takes."""
    if key in _SHOWN and shown == "infinity":
        return ""
    return f"{_microseconds(shown) / 10_000:g}%" if key == "CPUQuota" else shown


def _microseconds(text: str) -> int:
    factors = {"us": 1, "ms": 1_000, "min": 60_000_000, "s": 1_000_000}
    total = 0.0
    for part in text.split():
        unit = next(unit for unit in factors if part.endswith(unit))
        total += float(part.removesuffix(unit)) * factors[unit]
    return round(total)


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _restore(path: str, text: str | None) -> None:
    if text is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return
    os.unlink(path)
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:  # other drop-ins of the unit are in it
        return
