"""``network.connection_limit``: so many new connections in a while, and no more."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from msgspec.structs import replace

from chaosd.faults._network import NetworkFault, gated, injectable
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import CONNECT, GATE
from chaosd.kernel.edit import Edit
from chaosd.kernel.gate import Traffic
from chaosd.kernel.hooks import CGROUP, Hook
from chaosd.kernel.injection import Injection
from chaosd.kernel.match import Rule
from chaosd.kernel.syscalls import Calls
from chaosd.targets.members import members
from chaosd.targets.model import Target
from chaosd.units import Duration

_REFUSED = "ECONNREFUSED"
_MOST = 1_000_000  # probes/include/outcome.h counts in 20 bits
_Direction = Literal["egress", "ingress"]


class NetworkConnectionLimit(NetworkFault, frozen=True, kw_only=True):
    """In each ``window`` the first ``limit`` TCP connections are let through, the others are not."""

    name: ClassVar[str] = "network.connection_limit"
    mechanisms: ClassVar = (
        Mechanism("cgroup", (CONNECT,), "connect(2) fails, by a program on the target's cgroup v2"),
        Mechanism("gate", (GATE,), "first packets are dropped, or answered with a reset"),
    )

    limit: Annotated[int, Meta(description="how many are let through", ge=1, le=_MOST)]
    window: Annotated[Duration, Meta(description="in so long, from the first of them on")]
    action: Annotated[
        Literal["refuse", "drop"], Meta(description="an error at once, or silence until the caller gives up")
    ] = "refuse"
    errno: Annotated[str, Meta(description="errno by name, of what is refused to the target itself")] = (
        _REFUSED
    )
    direction: Annotated[
        _Direction, Meta(description="egress: those that the target makes; ingress: those made to it")
    ] = "egress"
    protocol: Annotated[str, Meta(description="tcp; no other has connections")] = "tcp"

    def check(self) -> list[str]:
        """Filters that the beginning of a connection has."""
        wrong = super().check()
        if self.protocol != "tcp":
            wrong.append("protocol: only tcp has connections")
        if self.window < 0.01:
            wrong.append(f"window: {self.window} is shorter than 10ms")
        if self.of != "packets":
            wrong.append("of: what is counted are connections")
        if self.mechanism == "cgroup" and self._only_gate():
            wrong.append("mechanism: cgroup only refuses connections that the target makes, by far end")
        return wrong + list(self._wrong_errno())

    def _wrong_errno(self) -> Iterator[str]:
        if not injectable(self.errno):
            yield f"errno: {self.errno!r} is no errno that can be injected (such as {_REFUSED})"
        elif self.errno != _REFUSED and (self.mechanism == "gate" or self._only_gate()):
            yield f"errno: with the gate (dropped, ingress, by source_ports or devices) it is {_REFUSED}"

    def _only_gate(self) -> bool:
        return bool(self.action == "drop" or self.direction == "ingress" or self.source_ports or self.devices)

    def choose(self) -> Mechanism:
        """By the gate what a cgroup's programs do not see, by these any other errno."""
        only = "gate" if self._only_gate() else "cgroup" if self.errno != _REFUSED else self.mechanism
        return super(NetworkConnectionLimit, replace(self, mechanism=only)).choose()

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """Programs on the target's cgroup, or a gate."""
        chance = self.rule(at)
        rule = replace(chance, limit=self.limit, window=float(self.window))
        if at.mechanism == "gate" or self._only_gate():
            act: Literal["answer", "drop"] = "answer" if self.action == "refuse" else "drop"
            return gated(self, target, at, act, rule, {}, Traffic("connections"))
        return [self._refusal(target, at, rule)]

    def _refusal(self, target: Target, at: Planning, rule: Rule) -> Injection:
        places = tuple(Hook("cgroup", program) for program in CGROUP["connect"])
        calls, number = Calls(("connect",), sockets=self.filters(target, at)), getattr(errno, self.errno)
        return Injection(at.run, at.index, members(target), calls, places, rule, number)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What becomes of the others."""
        which = "made by" if self.direction == "egress" else "made to"
        share = f"{self.percent} of the others" if self.percent < 100 else "the others"
        gets = (
            f"fail with {self.errno}"
            if self.action == "refuse"
            else "get no answer, until the caller gives up"
        )
        said = f"of connections {which} {target.spec} ({self.filters(target, at)})"
        return [f"{said} {self.limit} are let through in each {self.window}; {share} {gets}"]
