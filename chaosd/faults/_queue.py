"""Faults that hold packets back: netem or tbf on an ifb device of our own, else the relay."""

from __future__ import annotations

import string
from collections.abc import Iterator

import msgspec

from chaosd.errors import ChaosdError
from chaosd.faults._network import NetworkFault, Way, gated, netns_of, ways
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel import sysctl
from chaosd.kernel.capability_network import IFB, NETEM, TBF
from chaosd.kernel.edit import MARK, Edit
from chaosd.kernel.gate import Gate
from chaosd.kernel.netem import Netem, Shape, Tbf
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.relay import Relay
from chaosd.kernel.relay_return import RelayReturn
from chaosd.kernel.sysctl import Sysctl
from chaosd.kernel.tap import TAP
from chaosd.kernel.tc import Ifb
from chaosd.targets.model import Target

NETEM_OR_RELAY = (
    Mechanism("netem", (IFB, NETEM), "netem on an ifb device of our own"),
    Mechanism("relay", (IFB, TAP), "a process behind a TAP device, for kernels without netem"),
)
TBF_OR_RELAY = (Mechanism("tbf", (IFB, TBF), "a token bucket on an ifb device of our own"), *NETEM_OR_RELAY)

_LO_IS_A_ROAD = ("net.ipv4.conf.lo.route_localnet", "net.ipv4.conf.lo.accept_local")
_DIGITS = string.digits + string.ascii_lowercase
_FEWEST = 32  # packets that a queue must hold, lest TCP stalls at every loss: on lo they have 64 KiB


class Treatment(msgspec.Struct, frozen=True):
    """What is done to the chosen packets; seconds, bits per second, shares from 0 to 1."""

    delay: float = 0.0
    jitter: float = 0.0
    correlation: float = 0.0
    shape: Shape = "uniform"
    corrupt: float = 0.0
    rate: float = 0.0
    queue: float = 1.0


def queued(fault: NetworkFault, target: Target, at: Planning, treatment: Treatment) -> Iterator[Edit]:
    """The edits that send the chosen packets of a target through a treatment.

    Raises:
        ChaosdError: more interfaces than there are names, or one that the relay cannot serve.
    """
    each = at.mechanism == "relay"  # way has a device of its own
    found = ways(fault, target)
    detours = {way: _name(at, number if each else int(way.inbound)) for number, way in enumerate(found)}
    gates = tuple(gated(fault, target, at, "queue", fault.rule(at), detours))
    if each:
        mark = next(edit.mark for edit in gates if isinstance(edit, Gate))
        yield from _relays(detours, treatment, at, mark)
    else:
        yield from _ifbs(netns_of(target), detours, treatment, at)
    yield from gates


def _name(at: Planning, number: int) -> str:
    if number >= len(_DIGITS):
        raise ChaosdError(
            "more interfaces than the relay can serve", hint="name the ones that matter: devices"
        )
    return f"{MARK}{at.run}{at.index:02x}{_DIGITS[number]}"


def _ifbs(netns: NetnsRef, detours: dict[Way, str], what: Treatment, at: Planning) -> Iterator[Edit]:
    for name in dict.fromkeys(detours.values()):
        mtu = max(way.interface.mtu for way, used in detours.items() if used == name)
        yield Ifb(netns, name)
        if at.mechanism == "tbf":
            yield Tbf(netns, name, what.rate, *_bucket(what, mtu))
        else:
            shape = (what.delay, what.jitter, what.correlation, what.shape, what.corrupt, what.rate)
            yield Netem(netns, name, *shape, limit=_limit(what, mtu, 1_000_000), seed=at.seed)


def _bucket(what: Treatment, mtu: int) -> tuple[int, int]:
    # a bucket holds the largest packet (tbf cuts GSO packets that are larger) and 5 ms of the rate
    burst = max(mtu + 256, round(what.rate / 8 * 0.005))
    return burst, burst + max(_FEWEST * mtu, round(what.rate / 8 * what.queue))


def _limit(what: Treatment, mtu: int, most: int) -> int:
    # none is lost to a delay at that many packets a second; a rate may lose what waits too long
    if what.rate:
        return max(_FEWEST, round(what.rate / 8 * what.queue / mtu))
    return min(2**31 - 1, 10_000 + round(most * (what.delay + 8 * what.jitter)))


def _relays(detours: dict[Way, str], what: Treatment, at: Planning, mark: int) -> Iterator[Edit]:
    for way, name in detours.items():
        device = way.interface.ref
        if not way.interface.ethernet:
            raise ChaosdError(f"the relay cannot serve {device.name}, which has no Ethernet frames")
        if way.interface.loopback:
            yield from _lo_sysctls(device.netns)
        yield Relay(
            device.netns,
            name,
            delay=what.delay,
            jitter=what.jitter,
            correlation=what.correlation,
            distribution=what.shape,
            corrupt=what.corrupt,
            rate=what.rate,
            limit=_limit(what, way.interface.mtu, 100_000),
            seed=at.seed,
            fault=at.index,
        )
        yield RelayReturn(name, device, way.ingress, mark, at.run)


def _lo_sysctls(netns: NetnsRef) -> Iterator[Edit]:
    # A frame that comes back to lo has lost its route, and IPv4 takes local addresses off no wire.
    for name in _LO_IS_A_ROAD:
        old = sysctl.read(netns, name)
        if old != "1":
            yield Sysctl(netns, name, old, "1")
