"""The root qdisc of an ifb device of our own: netem for delay and damage, tbf for a rate.

Layouts of their options: linux/pkt_sched.h.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import ClassVar, Literal

from chaosd.errors import ChaosdError
from chaosd.kernel import netlink
from chaosd.kernel.edit import Control, Edit, Undo
from chaosd.kernel.netlink import asking, gone_or_raise, rtnl
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.rtnetlink import Item, Rtnl

Shape = Literal["uniform", "normal", "pareto", "paretonormal"]

NETEM_MEND = "needs CONFIG_NET_SCH_NETEM (module sch_netem; on Fedora and RHEL in kernel-modules-extra)"
TBF_MEND = "needs CONFIG_NET_SCH_TBF (module sch_tbf)"

_HANDLE = 0xC4A0_0000
_SCALE, _POINTS = 8192, 4096  # sch_netem.c: NETEM_DIST_SCALE; a table may have up to 16384 entries
_CERTAIN = 0xFFFFFFFF


@cache
def table(shape: Shape) -> tuple[int, ...]:
    """The inverse distribution function at 4096 points in 1/8192 of the jitter, its mean 0.

    Pareto has the shape parameter 3 and the scale that tc(8) gives it; paretonormal is a quarter
    normal and three quarters Pareto. The values are 16-bit, so nothing lies beyond four times.
    """
    from statistics import NormalDist  # late: it imports a good deal

    normal = [NormalDist().inv_cdf((i + 0.5) / _POINTS) for i in range(_POINTS)]
    pareto = [((1 - (i + 0.5) / _POINTS) ** (-1 / 3) - 1.5) * 4 / 3 for i in range(_POINTS)]
    mixed = [0.25 * n + 0.75 * p for n, p in zip(normal, pareto, strict=True)]
    points = {"normal": normal, "pareto": pareto, "paretonormal": mixed}[shape]
    return tuple(max(-32768, min(32767, round(point * _SCALE))) for point in points)


class _Qdisc(Edit, frozen=True):
    _strengths: ClassVar[dict[str, float]] = {}  # of this process's own, by slot

    netns: NetnsRef
    device: str

    @property
    def slot(self) -> str:
        """The root of our own device."""
        return f"tc.root:{self.netns.inode}:{self.device}"

    @property
    def _kind(self) -> str:
        raise NotImplementedError

    def _parts(self) -> list[tuple[str, bytes]]:
        raise NotImplementedError

    def _head(self) -> bytes:
        return b""

    def apply(self) -> None:
        """Put it at the root of our device (``UnsupportedError`` as the kernel says)."""
        mend = NETEM_MEND if self._kind == "netem" else TBF_MEND
        with asking(f"{self._kind} on {self.device}", mend), rtnl(self.netns) as ip:
            ip.set_root(self._index(ip), _HANDLE, self._kind, self.options())

    def _index(self, ip: Rtnl) -> int:
        link = ip.find(self.device)
        if link is None or link.kind != "ifb":
            raise ChaosdError(f"{self.device} is no ifb device of ours")
        return link.index

    @property
    def control(self) -> Control:
        """Any strength."""
        return "dial"

    def scale(self, strength: float, share: float) -> None:
        """Delay and spoil less, or let more through; at strength 0 the gate in front sends nothing here."""
        self._strengths[self.slot] = strength or 1.0
        if self.present():
            with rtnl(self.netns) as ip:
                ip.set_root(self._index(ip), _HANDLE, self._kind, self.options(), change=True)

    @property
    def _strength(self) -> float:
        return self._strengths.get(self.slot, 1.0)

    def options(self) -> bytes:
        """Its TCA_OPTIONS, at the strength that is set."""
        return _packed(self._head(), self._kind, self._parts())

    def revert(self) -> Undo:
        """Remove it; a root of another kind or handle is left alone."""
        try:
            with rtnl(self.netns) as ip:
                found = self._found(ip)
                if found is None or found.handle != _HANDLE:
                    return Undo.GONE
                ip.delete_root(found.index, _HANDLE)
                return Undo.DONE
        except OSError as error:
            return gone_or_raise(error)

    def _found(self, ip: Rtnl) -> Item | None:
        index = netlink.index_of(ip, self.device)
        return next((q for q in ip.qdiscs() if index and (q.index, q.kind) == (index, self._kind)), None)

    def present(self) -> bool:
        """Whether our device has a root of this kind and handle."""
        try:
            with rtnl(self.netns) as ip:
                found = self._found(ip)
                return found is not None and found.handle == _HANDLE
        except OSError as error:
            return gone_or_raise(error) is not Undo.GONE


class Netem(_Qdisc, frozen=True, tag="tc.netem"):
    """What happens to all packets sent through our device.

    Args:
        netns, device: our ifb device.
        delay, jitter: seconds.
        correlation: of each delay with the one before (0 to 1).
        shape: of the jitter.
        corrupt: share of packets that get one bit flipped (0 to 1).
        rate: bits per second; 0 for no limit.
        limit: packets it may hold; more are lost.
        seed: of the random choices, where the kernel takes one (6.7 and later).
    """

    delay: float = 0.0
    jitter: float = 0.0
    correlation: float = 0.0
    shape: Shape = "uniform"
    corrupt: float = 0.0
    rate: float = 0.0
    limit: int = 1000
    seed: int = 0

    @property
    def _kind(self) -> str:
        return "netem"

    def describe(self) -> str:
        """One line: what is set."""
        said = ((f, getattr(self, f)) for f in ("delay", "jitter", "correlation", "shape", "corrupt", "rate"))
        return f"netem on {self.device}: " + ", ".join(f"{name} {value}" for name, value in said if value)

    def _head(self) -> bytes:
        # struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter; times follow as attributes
        return struct.pack("=6I", 0, self.limit, 0, 0, 0, 0)

    def _parts(self) -> list[tuple[str, bytes]]:
        strength = self._strength
        shares = (self.corrupt * strength, self.correlation)
        corrupt, correlation = (min(_CERTAIN, round(x * _CERTAIN)) for x in shares)
        options = [
            ("LATENCY64", struct.pack("=q", round(self.delay * strength * 1e9))),
            ("JITTER64", struct.pack("=q", round(self.jitter * strength * 1e9))),
            ("CORR", struct.pack("=3I", correlation, 0, 0)),
            ("CORRUPT", struct.pack("=2I", corrupt, 0)),
            ("PRNG_SEED", struct.pack("=Q", self.seed % (1 << 64))),
        ]
        if self.jitter and self.shape != "uniform":
            options.append(("DELAY_DIST", struct.pack(f"={_POINTS}h", *table(self.shape))))
        if self.rate:
            bytes_per_second = round(self.rate / strength / 8)
            options.append(("RATE", struct.pack("=IiIi", min(bytes_per_second, _CERTAIN), 0, 0, 0)))
            options.append(("RATE64", struct.pack("=Q", bytes_per_second)))
        return options


class Tbf(_Qdisc, frozen=True, tag="tc.tbf"):
    """A token bucket: packets wait until the rate allows them, and are dropped beyond the queue.

    Args:
        netns, device: our ifb device.
        rate: bits per second.
        burst: bytes that may pass at once; at least one packet of the largest kind.
        queue: bytes that may wait.
    """

    rate: float
    burst: int
    queue: int

    @property
    def _kind(self) -> str:
        return "tbf"

    def describe(self) -> str:
        """One line: the rate."""
        return f"tbf on {self.device}: {self.rate:g} bit/s, burst {self.burst} B, queue {self.queue} B"

    def _parts(self) -> list[tuple[str, bytes]]:
        speed = self.rate / self._strength / 8
        # struct tc_ratespec: cell_log, linklayer (1: Ethernet), overhead, cell_align, mpu, rate
        rate = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, min(round(speed), _CERTAIN))
        ticks = min(round(self.burst / speed * 1e9 / 64), _CERTAIN)  # of 64 ns: PSCHED_SHIFT
        parameters = rate + bytes(12) + struct.pack("=3I", self.queue, ticks, 0)
        return [
            ("PARMS", parameters),
            ("RATE64", struct.pack("=Q", round(speed))),
            ("BURST", struct.pack("=I", self.burst)),
        ]


_NUMBERS = {
    "netem": {
        "CORR": 1,
        "DELAY_DIST": 2,
        "CORRUPT": 4,
        "RATE": 6,
        "RATE64": 8,
        "LATENCY64": 10,
        "JITTER64": 11,
        "PRNG_SEED": 14,
    },
    "tbf": {"PARMS": 1, "RATE64": 4, "BURST": 6},
}


def _packed(head: bytes, kind: str, options: list[tuple[str, bytes]]) -> bytes:
    body = head
    for name, value in options:  # struct nlattr: length, type, value, padded to 4
        body += struct.pack("=HH", 4 + len(value), _NUMBERS[kind][name]) + value + bytes(-len(value) % 4)
    return body
