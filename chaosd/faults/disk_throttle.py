"""``disk.throttle``: a target reads and writes a disk no faster than this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._disk import LADDER, Throughput, disks, throttled, v1_note, which
from chaosd.faults.base import Fault, Planning
from chaosd.kernel import blocks
from chaosd.kernel.edit import Edit
from chaosd.targets.model import Target

_Path = Annotated[str, Meta(description="the disk under this path, as the target sees it")]


class DiskThrottle(Fault, frozen=True, kw_only=True):
    """A target reads and writes one disk at no more than these rates; the rest of the host is not slowed."""

    name: ClassVar[str] = "disk.throttle"
    mechanisms: ClassVar = LADDER

    path: _Path = ""
    device: Annotated[str, Meta(description="or this block device, such as sda or /dev/mapper/data")] = ""
    read: Annotated[Throughput | None, Meta(description="bytes read per second")] = None
    write: Annotated[Throughput | None, Meta(description="bytes written per second")] = None
    read_iops: Annotated[int, Meta(description="reads per second; 0 for no limit", ge=0)] = 0
    write_iops: Annotated[int, Meta(description="writes per second; 0 for no limit", ge=0)] = 0

    def check(self) -> list[str]:
        """A disk, and at least one limit that lets something through."""
        wrong = which(self.path, self.device)
        if not self._limits():
            wrong.append("give at least one of read, write, read_iops and write_iops, such as write: 1MB/s")
        return wrong + [f"{name}: less than a byte per second" for name, value in self._rates() if value < 1]

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A line of io.max on v2; up to four files on v1."""
        return throttled(target, at, disks(target, self.path, self.device), self._limits())

    def effect(self, target: Target, at: Planning) -> list[str]:
        """The rates, and what they are not about."""
        where = ", ".join(map(blocks.node, disks(target, self.path, self.device)))
        rates = [f"{name}s {value}" for name, value in self._rates()]
        counts = {"reads": self.read_iops, "writes": self.write_iops}
        rates += [f"{count} {name} per second" for name, count in counts.items() if count]
        cached = "what the page cache answers is as fast as ever"
        return [f"{target.spec} on {where}: {', '.join(rates)} at most", *v1_note(at), cached]

    def _rates(self) -> list[tuple[str, Throughput]]:
        both = (("read", self.read), ("write", self.write))
        return [(name, value) for name, value in both if value is not None]

    def _limits(self) -> dict[str, float]:
        named = {"rbps": self.read, "wbps": self.write, "riops": self.read_iops, "wiops": self.write_iops}
        return {key: float(int(value)) for key, value in named.items() if value}
