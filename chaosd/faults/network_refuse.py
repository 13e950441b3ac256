"""``network.refuse``: the target's connections are refused, or fail with any errno."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.faults._network import NetworkFault, injectable
from chaosd.faults.base import Mechanism, Planning
from chaosd.kernel.capability_network import CONNECT
from chaosd.kernel.edit import Edit
from chaosd.kernel.hooks import CGROUP, Hook
from chaosd.kernel.injection import Injection
from chaosd.kernel.syscalls import Calls
from chaosd.targets.members import members
from chaosd.targets.model import Target


class NetworkRefuse(NetworkFault, frozen=True, kw_only=True):
    """connect(2) fails at once with ``errno``; what is connected already stays so."""

    name: ClassVar[str] = "network.refuse"
    mechanisms: ClassVar = (Mechanism("cgroup", (CONNECT,), "a program on the target's cgroup v2"),)
    takes: ClassVar[str] = "processes"

    errno: Annotated[str, Meta(description="errno by name")] = "ECONNREFUSED"
    protocol: Annotated[str, Meta(description="tcp or udp; empty for both")] = "tcp"

    def check(self) -> list[str]:
        """An errno that connect can return, and filters that a connection attempt has."""
        wrong = super().check()
        if not injectable(self.errno):
            wrong.append(f"errno: {self.errno!r} is no errno that can be injected (such as ECONNREFUSED)")
        if self.source_ports or self.devices or self.direction != "egress":
            wrong.append("source_ports, devices and direction mean nothing before there is a connection")
        return wrong

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """Programs on the target's cgroup."""
        places = tuple(Hook("cgroup", program) for program in CGROUP["connect"])
        calls, number = Calls(("connect",), sockets=self.filters(target, at)), getattr(errno, self.errno)
        yield Injection(at.run, at.index, members(target), calls, places, self.rule(at), number)

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What a caller gets."""
        share = f"{self.percent} of connections" if self.percent < 100 else "every connection"
        return [f"{share} of {target.spec} ({self.filters(target, at)}) fails with {self.errno}"]
