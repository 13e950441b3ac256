"""What the network faults share: the filters a user can name, and how a gate is put in their way."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from chaosd.errors import ChaosdError, ForeignStateError, UnsupportedError
from chaosd.faults.base import Fault, Planning
from chaosd.kernel import netlink, sysctl
from chaosd.kernel.capability_network import TAGGING
from chaosd.kernel.edit import Edit
from chaosd.kernel.gate import ANY, RANKS, Act, Gate, Program, Traffic
from chaosd.kernel.match import PROTOCOLS, Filters, Rule, network
from chaosd.kernel.netlink import Interface
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.sockets import Tagging
from chaosd.kernel.sysctl import Sysctl
from chaosd.kernel.tc import Clsact, Hook, free_prios, side_of
from chaosd.targets.members import members
from chaosd.targets.model import Target
from chaosd.units import Percent

Direction = Literal["egress", "ingress", "both"]


class NetworkFault(Fault, frozen=True, kw_only=True):
    """Filters in any mix; what is left out lets everything through."""

    takes: ClassVar[str] = "traffic"
    on_loopback: ClassVar[bool] = False  # of a whole namespace: what its processes say to each other, too

    ports: Annotated[
        list[int | str], Meta(description="ports of the far end, such as 5432 or 8000-8099")
    ] = []
    source_ports: Annotated[list[int | str], Meta(description="ports of the target's own")] = []
    cidrs: Annotated[
        list[str], Meta(description="only these far ends: addresses or networks, v4 and v6")
    ] = []
    exclude: Annotated[list[str], Meta(description="never these far ends")] = []
    protocol: Annotated[str, Meta(description="tcp, udp, icmp, ...; empty for all of IP")] = ""
    direction: Annotated[Direction, Meta(description="what leaves the target, enters it, or both")] = "egress"
    percent: Annotated[Percent, Meta(description="how much of it is hit")] = Percent(100)
    of: Annotated[Literal["packets", "flows"], Meta(description="what the percentage counts")] = "packets"
    budget: Annotated[int, Meta(description="stop after so many; 0 for no limit", ge=0)] = 0
    devices: Annotated[list[str], Meta(description="only on these interfaces")] = []

    def check(self) -> list[str]:
        """Filters that cannot be read or can never match."""
        return list(_wrong(self))

    def filters(self, target: Target, at: Planning) -> Filters:
        """What the gate is to match; never the operator's own way in, unless the target is less than that."""
        spared = at.operator if target.all_traffic else ()
        return Filters(
            ports=tuple(map(span, self.ports)),
            source_ports=tuple(map(span, self.source_ports)),
            cidrs=tuple(self.cidrs),
            exclude=(*self.exclude, *(str(ip_address(address.partition("%")[0])) for address in spared)),
            protocol=self.protocol,
        )

    def rule(self, at: Planning, *, correlation: float = 0.0) -> Rule:
        """The chance that ``percent``, ``of`` and ``budget`` make."""
        flows = self.of == "flows"
        return Rule.chance(
            at.seed,
            self.percent.fraction,
            correlation=correlation,
            by_flow=flows,
            budget=self.budget,
            fault=at.index,
        )


def span(port: int | str) -> tuple[int, int]:
    """A port or a range such as ``8000-8099``, both ends included.

    Raises:
        ValueError: it is neither.
    """
    first, dash, last = str(port).partition("-")
    low, high = int(first), int(last if dash else first)
    if not 0 < low <= high < 65536:
        raise ValueError(port)
    return low, high


def _wrong(fault: NetworkFault) -> Iterator[str]:
    yield from (
        f"{name}: {port!r} is no port or range of ports (such as 5432 or 8000-8099)"
        for name in ("ports", "source_ports")
        for port in getattr(fault, name)
        if not reads(span, port)
    )
    yield from (
        f"{name}: {text!r} is no address or network (such as 10.0.0.0/8 or fd00::/8)"
        for name in ("cidrs", "exclude")
        for text in getattr(fault, name)
        if not reads(network, text)
    )
    if fault.protocol and fault.protocol not in PROTOCOLS:
        yield f"protocol: {fault.protocol!r} is unknown (one of {', '.join(PROTOCOLS)})"
    elif fault.protocol in ("icmp", "gre", "esp") and (fault.ports or fault.source_ports):
        yield f"ports: {fault.protocol} has no ports"
    if not fault.percent:
        yield "percent: 0% hits nothing"


def injectable(name: str) -> bool:
    """Whether connect(2) can be made to fail with an errno of this name.

    Not with EINTR, which a caller takes for success in the making.
    """
    return name in errno.errorcode.values() and name not in ("EINTR", "ERESTART")


def reads(how: Callable[[Any], object], text: object) -> bool:
    """Whether ``how`` takes a text, or raises ``ValueError``."""
    try:
        how(text)
    except ValueError:
        return False
    return True


class Way(msgspec.Struct, frozen=True):
    """One side of one interface that the target's traffic passes."""

    interface: Interface
    program: Program

    @property
    def ingress(self) -> bool:
        """Met when it comes in; on lo everything is met when it leaves."""
        return self.program == "chaosd_in"

    @property
    def inbound(self) -> bool:
        """It is what the target receives."""
        return self.program in ("chaosd_in", "chaosd_loop_in")


def ways(fault: NetworkFault, target: Target) -> list[Way]:
    """Where gates have to stand.

    Raises:
        ChaosdError: there is no such interface, or none that is up.
    """
    found = []
    for interface in _chosen(fault, target):
        out: Program = "chaosd_loop_out" if interface.loopback else "chaosd_out"
        back: Program = "chaosd_loop_in" if interface.loopback else "chaosd_in"
        found += [Way(interface, out)] if fault.direction != "ingress" else []
        found += [Way(interface, back)] if fault.direction != "egress" else []
    return found


def netns_of(target: Target) -> NetnsRef:
    """The namespace of the target's traffic (``ChaosdError`` if it has none, or several)."""
    netns = target.device.netns if target.device else target.netns
    if netns is None:
        raise ChaosdError(f"{target.spec} is in no single network namespace", hint="aim at one process")
    return netns


def _chosen(fault: NetworkFault, target: Target) -> list[Interface]:
    up = netlink.interfaces(netns_of(target))
    names = fault.devices or ([target.device.name] if target.device else [])
    if names:
        if missing := set(names) - {i.ref.name for i in up}:
            raise ChaosdError(f"{target.spec} has no interface {', '.join(sorted(missing))} that is up")
        return [i for i in up if i.ref.name in names]
    free = [i for i in up if not i.enslaved]
    kept = not target.all_traffic or fault.on_loopback
    chosen = [i for i in free if kept or not i.loopback] or free
    if not chosen:
        raise ChaosdError(f"{target.spec} has no interface that is up")
    return chosen


def clsacts(found: Iterable[Way]) -> Iterator[Edit]:
    """A clsact for each interface that has none.

    Raises:
        ForeignStateError: an interface has a plain ingress qdisc, where packets leaving cannot be met.
    """
    for interface in dict.fromkeys(way.interface for way in found):
        if interface.hook == "ingress":
            said = f"{interface.ref.name} has an ingress qdisc, which has no side for what leaves"
            raise ForeignStateError(said, hint="clsact takes its place and does more")
        if not interface.hook:
            yield Clsact(interface.ref, interface.queueless)


def open_lo(netns: NetnsRef) -> Iterator[Edit]:
    """Let ``lo`` take packets that come in as from a wire: they have lost their route.

    IPv4 takes local addresses off no wire otherwise (net/ipv4/route.c: martian sources).
    """
    for name in ("net.ipv4.conf.lo.route_localnet", "net.ipv4.conf.lo.accept_local"):
        old = sysctl.read(netns, name)
        if old != "1":
            yield Sysctl(netns, name, old, "1")


def gated(
    fault: NetworkFault,
    target: Target,
    at: Planning,
    act: Act,
    rule: Rule,
    detours: dict[Way, str],
    traffic: Traffic = ANY,
) -> Iterator[Edit]:
    """The gate and its hooks on every way of the target.

    Args:
        fault: as planned, on ``target`` and ``at`` a moment.
        target: as in ``Fault.plan``.
        at: as in ``Fault.plan``.
        act: what the gate does to the chosen packets.
        rule: which it chooses.
        detours: for ``queue``: the device of ours that each way's packets are sent to.
        traffic: what packets must be.
    """
    found = ways(fault, target)
    tagging = None if target.all_traffic else Tagging(at.run, at.index, members(target))
    tags = tagging.slot if tagging else ""
    once = act == "queue" and at.mechanism != "relay"
    gate = Gate(
        at.run,
        at.index,
        netns_of(target),
        act,
        fault.filters(target, at),
        rule,
        tags,
        once,
        traffic,
        programs=tuple(dict.fromkeys(way.program for way in found)),
    )
    yield from clsacts(found)
    if tagging:
        if not (verdict := TAGGING()).ok:
            raise UnsupportedError(f"cannot tell {target.spec} from its neighbors: {verdict.reason}")
        yield tagging
    yield gate
    for way in found:
        first, behind = free_prios(way.interface, side_of(way.program), RANKS)
        device, detour = way.interface.ref, detours.get(way, "")
        yield Hook(device, gate.slot, at.run, first + gate.rank, way.program, detour, behind)
