"""``dns.error``: names of the target cannot be resolved."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field
from msgspec.structs import replace

from chaosd.faults._network import NetworkFault, gated, netns_of, open_lo, reads, span
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import CONNECT, GATE
from chaosd.kernel.edit import Edit
from chaosd.kernel.gate import Traffic, backwards
from chaosd.kernel.hooks import CGROUP, Hook
from chaosd.kernel.injection import Injection
from chaosd.kernel.match import Filters, Ports
from chaosd.kernel.netns import NetnsRef, inside
from chaosd.kernel.syscalls import Calls
from chaosd.targets.members import members
from chaosd.targets.model import Target

_CODES = {"servfail": 2, "nxdomain": 3}  # RFC 1035, 4.1.1
_DOCKER = f"{int.from_bytes(bytes((127, 0, 0, 11)), 'little'):08X}"
_Names = Annotated[list[str], Meta(description="only these; .example.com means it and all that is below it")]


class DnsError(NetworkFault, frozen=True, kw_only=True):
    """Questions to name servers are lost, refused, or answered at once with an error."""

    name: ClassVar[str] = "dns.error"
    mechanisms: ClassVar = (
        Mechanism("gate", (GATE,), "questions are dropped, or turned into their answers on their way out"),
        Mechanism("cgroup", (CONNECT,), "for refused: connect and send fail, on the target's cgroup v2"),
    )
    on_loopback: ClassVar[bool] = True

    kind: Annotated[
        Literal["timeout", "refused", "servfail", "nxdomain"],
        Meta(description="no answer; ECONNREFUSED from connect and send; or this answer"),
    ] = "servfail"
    names: _Names = []
    ports: Annotated[list[int | str], Meta(description="of name servers, such as 53 or 5300-5399")] = field(
        default_factory=lambda: [53]
    )
    protocol: Annotated[str, Meta(description="udp or tcp; empty for both")] = ""

    def check(self) -> list[str]:
        """Names, and what a question to a name server can be filtered by."""
        wrong = super().check()
        wrong += [f"names: {name!r} is no domain name or pattern" for name in self._unreadable()]
        if self.direction != "egress":
            wrong.append("direction: the target's own questions are meant, which leave it")
        if self.protocol not in ("", "udp", "tcp"):
            wrong.append(f"protocol: name servers are asked over udp or tcp, not {self.protocol}")
        if self.kind == "refused" and (self.names or self.source_ports or self.devices):
            wrong.append("names, source_ports and devices are not known to connect and send (kind: refused)")
        if self.mechanism not in ("", self._way):
            wrong.append(f"mechanism: {self.kind} is done by {self._way}")
        return wrong

    def _unreadable(self) -> list[str]:
        return [name for name in self.names if not reads(backwards, name)]

    @property
    def _way(self) -> str:
        return "cgroup" if self.kind == "refused" else "gate"

    def choose(self) -> Mechanism:
        """The one that can do this kind."""
        return super(DnsError, replace(self, mechanism=self._way)).choose()

    def filters(self, target: Target, at: Planning) -> Filters:
        """The gate is to meet Docker's own name server, too, which behind its NAT has not port 53."""
        found = super().filters(target, at)
        return replace(found, ports=(*found.ports, *self._behind_nat(target)))

    def _behind_nat(self, target: Target) -> Ports:
        on_lo = target.device is None and (not self.devices or "lo" in self.devices)
        if self._way != "gate" or not on_lo or (53, 53) not in map(span, self.ports):
            return ()
        return tuple((port, port) for port in _docker_ports(netns_of(target)))

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """A gate, or programs on the target's cgroup."""
        if self._way == "gate":
            yield from self._gate(target, at)
            return
        places = tuple(Hook("cgroup", program) for call in ("connect", "sendto") for program in CGROUP[call])
        calls = Calls(("connect", "sendto"), sockets=self.filters(target, at))
        yield Injection(at.run, at.index, members(target), calls, places, self.rule(at), errno.ECONNREFUSED)

    def _gate(self, target: Target, at: Planning) -> Iterator[Edit]:
        if self.kind == "timeout":
            yield from gated(
                self, target, at, "drop", self.rule(at), {}, Traffic("queries", tuple(self.names))
            )
            return
        anew = bool(self._behind_nat(target))
        if anew:
            yield from open_lo(netns_of(target))
        asked = Traffic("queries", tuple(self.names), _CODES[self.kind], anew)
        yield from gated(self, target, at, "answer", self.rule(at), {}, asked)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What a resolver gets."""
        share = f"{self.percent} of the" if self.percent < 100 else "all"
        which = f" for {', '.join(self.names)}" if self.names else ""
        gets = {
            "timeout": "get no answer",
            "refused": "fail with ECONNREFUSED",
            "servfail": "are answered with SERVFAIL: try again later",
            "nxdomain": "are answered with NXDOMAIN: there is no such name",
        }
        said = f"{share} DNS questions{which} of {target.spec} ({self.filters(target, at)}) {gets[self.kind]}"
        over_tcp = {"timeout": "get no answer", "refused": "fail as well"}.get(self.kind, "are refused")
        return [
            said,
            "over TCP names are not known; none is hit" if self.names else f"TCP connections {over_tcp}",
        ]


def _docker_ports(netns: NetnsRef) -> list[int]:
    """Where Docker's name server is in a container: at 127.0.0.11, and NAT sends port 53 there."""
    found: set[int] = set()
    with inside(netns):
        for table in ("udp", "tcp"):
            with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                ends = (line.split()[1].partition(":") for line in file.readlines()[1:])
                found |= {int(port, 16) for address, _, port in ends if address == _DOCKER}
    return sorted(found)
