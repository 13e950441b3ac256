"""The filters and the chance of a network fault, and their layout in probes/include/{match,rule}.h."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec

from chaosd.kernel.bpf import Map, Object
from chaosd.kernel.edit import Evidence

PROTOCOLS = {
    "tcp": (6, 6),
    "udp": (17, 17),
    "icmp": (1, 58),
    "sctp": (132, 132),
    "dccp": (33, 33),
    "udplite": (136, 136),
    "gre": (47, 47),
    "esp": (50, 50),
}
"""By name: the protocol number in IPv4 and in IPv6; "icmp" is either family's."""

_FAR, _NEAR = 0, 1
_CERTAIN = 1 << 32
_WINDOW_UNIT = 1 << 20  # nanoseconds; probes/include/outcome.h
_COUNTS = ("matched", "injected", "probability", "turn", "budget", "lease", "overlap", "limit", "strength")

Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, both ends included."""


class Filters(msgspec.Struct, frozen=True):
    """Which traffic is meant; an empty field lets everything through.

    Args:
        ports: of the far end as the target sees it.
        source_ports: the target's own.
        cidrs, exclude: networks of the far end, IPv4 and IPv6.
        protocol: one of ``PROTOCOLS``.
    """

    ports: Ports = ()
    source_ports: Ports = ()
    cidrs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    protocol: str = ""

    def pack(self) -> bytes:
        """As struct filters."""
        v4, v6 = PROTOCOLS[self.protocol] if self.protocol else (0, 0)
        wants = (self.ports, self.source_ports, self.cidrs, self.exclude)
        return struct.pack("=8B", v4, v6, *(bool(want) for want in wants), 0, 0)

    @property
    def room(self) -> dict[str, int]:
        """How many entries maps need, by name: one of ports for all there are takes a millisecond to make."""
        spans = (last - first + 1 for first, last in (*self.ports, *self.source_ports))
        return {"ports": max(sum(spans), 1)}

    def fill(self, probe: Object) -> None:
        """Put ports and networks into the maps of a loaded probe."""
        ports = probe.map("ports")
        for side, ranges in ((_FAR, self.ports), (_NEAR, self.source_ports)):
            for first, last in ranges:
                for port in range(first, last + 1):
                    ports.update(struct.pack("=HH", side, port), b"\1")
        for name in ("cidrs", "exclude"):
            trie = probe.map(name)
            for text in getattr(self, name):
                trie.update(_prefix(network(text)), b"\1")

    def __str__(self) -> str:
        said = [self.protocol] if self.protocol else []
        said += [f"port {_spell(self.ports)}"] if self.ports else []
        said += [f"own port {_spell(self.source_ports)}"] if self.source_ports else []
        said += [f"peers in {', '.join(self.cidrs)}"] if self.cidrs else []
        said += [f"but not {', '.join(self.exclude)}"] if self.exclude else []
        return ", ".join(said) or "everything"


def _spell(ranges: Ports) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def network(text: str) -> IPv4Network | IPv6Network:
    """An address or network, whose host bits do not matter (``ValueError`` for anything else)."""
    return ip_network(text, strict=False)


def _prefix(net: IPv4Network | IPv6Network) -> bytes:
    if isinstance(net, IPv4Network):
        mapped = b"\0" * 10 + b"\xff\xff" + net.network_address.packed
        return struct.pack("=II", 32 + 96 + net.prefixlen, 1) + mapped
    return struct.pack("=II", 32 + net.prefixlen, 0) + net.network_address.packed


class Rule(msgspec.Struct, frozen=True):
    """Which matched events get the fault, decided by a seeded chain of a good and a bad state.

    Args:
        seed: the same seed decides the same for the n-th event, or for the same flow.
        worsen, mend: chance, before each event, to go from good to bad and back (0 to 1).
        good, bad: chance of the fault in either state.
        by_flow: decide once for each flow, by ``worsen`` alone.
        budget: stop after so many; 0 for no limit.
        after, first, every: of the matched events pass over the first ``after``, then take only the
            next ``first`` (0 for all), and of these every ``every``-th, beginning with the first.
            Only where events are numbered one by one: system calls and connections.
        fault: its place in ``bpf.Lease``, whose strengths thin out what was chosen: as in Planning.index.
        limit, window: let ``limit`` events (at most a million; 0 for none) go by in each window of so
            many seconds, and hit only what comes beyond. A window begins with the first event after
            the end of the last.
    """

    seed: int
    worsen: float = 1.0
    mend: float = 0.0
    good: float = 0.0
    bad: float = 1.0
    by_flow: bool = False
    budget: int = 0
    after: int = 0
    first: int = 0
    every: int = 1
    fault: int = 0
    limit: int = 0
    window: float = 0.0

    @classmethod
    def chance(
        cls,
        seed: int,
        share: float,
        *,
        correlation: float = 0.0,
        by_flow: bool = False,
        budget: int = 0,
        fault: int = 0,
    ) -> Rule:
        """A share (0 to 1) of events; ``correlation`` is that of each decision with the one before.

        The share stays exact: worsen = p(1-c) and mend = (1-p)(1-c) have p as their equilibrium
        and c as their autocorrelation. (netem's own correlation loses more or less than asked.)
        """
        worsen = share if by_flow else share * (1 - correlation)
        mend = (1 - share) * (1 - correlation)
        return cls(seed, worsen, mend, by_flow=by_flow, budget=budget, fault=fault)

    def pack(self) -> bytes:
        """As struct rule."""
        chances = (round(c * _CERTAIN) for c in (self.worsen, self.mend, self.good, self.bad))
        turn = (self.after, self.first, self.every)
        quota = (self.limit, round(self.window * 1e9 / _WINDOW_UNIT))
        numbers = (self.seed % (1 << 64), self.budget, *chances, *turn, *quota)
        return struct.pack("=11Q2I", *numbers, self.by_flow, self.fault)


def evidence(counts: Map, unit: str) -> Evidence:
    """What a probe with this rule has counted."""
    totals = {name: counts.total(index) for index, name in enumerate(_COUNTS)}
    matched, injected = totals.pop("matched"), totals.pop("injected")
    return Evidence(matched, injected, {why: n for why, n in totals.items() if n}, unit)
