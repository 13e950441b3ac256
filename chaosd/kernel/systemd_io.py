"""Limits of a unit's I/O on disks, set through systemd: lists with an item for each device."""

from __future__ import annotations

from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.cgroup_meter import Meter
from chaosd.kernel.edit import Evidence
from chaosd.kernel.systemd import UnitProperty, dropin, systemctl

KEYS = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}
"""The properties (systemd.resource-control(5)) by the keys of io.max."""

_meters: dict[str, Meter] = {}


class UnitDevices(UnitProperty, frozen=True, tag="systemd.devices"):
    """A limit of a unit for some devices; ``before`` and ``after`` are all items of the list, a line each.

    ``devices`` are the numbers of the devices that are limited by this edit, and ``limit`` is how far.
    """

    devices: tuple[str, ...] = ()
    limit: float = 0.0

    def apply(self) -> None:
        """Set it; see ``UnitProperty``."""
        super().apply()
        if self.cgroup is not None:
            for device in self.devices:
                _meters[f"{self.slot}:{device}"] = Meter(self.cgroup, device)

    def evidence(self) -> Evidence | None:
        """The unit's I/O on the devices since ``apply``, and how much of it came as fast as it might."""
        key = next(key for key, name in KEYS.items() if name == self.key)
        meters = [_meters[slot] for device in self.devices if (slot := f"{self.slot}:{device}") in _meters]
        try:
            found = [meter.evidence({key: self.limit}) for meter in meters]
        except FileNotFoundError:
            return None
        matched, held = (sum(getattr(part, name) for part in found) for name in ("matched", "injected"))
        return Evidence(matched, held, unit="I/Os") if found else None

    def _ours(self, text: str | None) -> bool:
        return text is not None and _listed(text, self.key) in (_items(self.after), _items(self.before))


def limit_unit(
    unit: str, cgroup: CgroupRef, nodes: dict[str, str], wanted: dict[str, float]
) -> list[UnitDevices]:
    """The edits that limit a unit's I/O; what the unit has set for other devices stays.

    Args:
        unit: its name.
        cgroup: its cgroup.
        nodes: the path of each device's node, by its numbers.
        wanted: limits by the keys of io.max.
    """
    edits = []
    for key, value in wanted.items():
        name = KEYS[key]
        had = _items(systemctl("show", f"--property={name}", "--value", "--", unit))
        before = dict.fromkeys(nodes.values(), "infinity") | had
        after = before | dict.fromkeys(nodes.values(), str(int(value)))
        edits.append(UnitDevices(
            unit, name, _text(before), _text(after), dropin(unit, name), cgroup, "io.max",
            devices=tuple(nodes), limit=value,
        ))  # fmt: skip
    return edits


def _listed(text: str, key: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == key:  # an empty value empties the list
            found = found | _items(value) if value else {}
    return found


def _items(text: str) -> dict[str, str]:
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if " " in line)
    return {device: value for device, value in pairs if value != "infinity"}


def _text(items: dict[str, str]) -> str:
    return "\n".join(f"{device} {value}" for device, value in items.items())
