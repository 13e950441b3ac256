"""Connections torn down: ``Reset`` finds those of a target and has the kernel abort them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from chaosd.errors import UnsupportedError
from chaosd.kernel import bpf, match, sock_diag
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.sock_diag import Connection
from chaosd.kernel.tasks import Members
from chaosd.kernel.tracer_rule import mix
from chaosd.units import Duration

MEND = "needs CONFIG_INET_DIAG_DESTROY"


class Reset(Edit, frozen=True, tag="network.reset"):
    """The open TCP connections of a target are torn down, once or again and again.

    Args:
        run, index: as in Planning.
        netns: where the connections are.
        members: whose; everybody's in the namespace if it is left out.
        filters, rule: which; the rule's chance and budget count.
        every: seconds from one time to the next; 0 for once, at the start.
    """

    irreversible = True

    run: str
    index: int
    netns: NetnsRef
    members: Members | None
    filters: match.Filters
    rule: match.Rule
    every: float = 0.0

    @property
    def slot(self) -> str:
        """Its own name; connections are nobody's state."""
        return f"network.reset:{self.run}:{self.index}"

    def describe(self) -> str:
        """One line: whose connections, and how often."""
        whose = self.members.describe() if self.members else f"network namespace {self.netns.inode}"
        often = f" every {Duration(self.every)}" if self.every else ""
        return f"tear down the TCP connections of {whose} ({self.filters}){often}"

    def apply(self) -> None:
        """The first time (``UnsupportedError`` where the kernel cannot)."""
        bpf.live[self.slot] = sweeps = _Sweeps(self)
        sweeps.go()

    def revert(self) -> Undo:
        """Nothing brings a connection back; but no more are torn down."""
        bpf.close(self.slot)
        return Undo.NEVER

    def present(self) -> bool:
        """Whether this process is at it."""
        return self.slot in bpf.live

    def renew(self, until: float) -> None:
        """The next time, when it is due."""
        sweeps = bpf.live.get(self.slot)
        if isinstance(sweeps, _Sweeps) and sweeps.due() and time.clock_gettime(time.CLOCK_BOOTTIME) < until:
            sweeps.go()

    def evidence(self) -> Evidence | None:
        """Connections met, torn down and spared; None in a process that did not apply it."""
        sweeps = bpf.live.get(self.slot)
        return sweeps.evidence() if isinstance(sweeps, _Sweeps) else None


class _Sweeps:
    """What was done so far, and when the next time is."""

    def __init__(self, edit: Reset) -> None:
        self._edit = edit
        self._next = 0.0
        self._number = 0
        self._counts: Counter[str] = Counter()

    def due(self) -> bool:
        return bool(self._edit.every) and time.monotonic() >= self._next

    def go(self) -> None:
        self._next = time.monotonic() + self._edit.every
        try:
            with sock_diag.asking(self._edit.netns) as kernel:
                for connection in self._matching(kernel):
                    outcome = self._outcome()
                    if outcome == "injected" and not kernel.destroy(connection):
                        outcome = "ended"
                    self._counts[outcome] += 1
        except FileNotFoundError:
            return  # with the namespace, whose loss others see
        except OSError as error:
            raise UnsupportedError(f"connections cannot be torn down: {error.strerror}", hint=MEND) from None

    def _matching(self, kernel: sock_diag.Diagnosis) -> list[Connection]:
        found = [c for c in kernel.connections() if _meets(self._edit.filters, c)]
        if (who := self._edit.members) is None:
            return [c for c in found if c.inode]
        sockets = _inodes(who.now()) - _inodes(who.spared)
        return [c for c in found if c.inode in sockets]

    def _outcome(self) -> str:
        rule, number = self._edit.rule, self._number
        self._number += 1
        if mix(rule.seed % (1 << 64) ^ mix(number)) >> 32 >= round(rule.worsen * (1 << 32)):
            return "probability"
        return "budget" if 0 < rule.budget <= self._counts["injected"] else "injected"

    def evidence(self) -> Evidence:
        skipped = {why: n for why, n in self._counts.items() if why != "injected"}
        return Evidence(self._counts.total(), self._counts["injected"], skipped, "connections")

    def close(self) -> None:
        """Nothing is held."""


def _meets(filters: match.Filters, connection: Connection) -> bool:
    (_, own), (far, port) = connection.near, connection.far
    for ranges, number in ((filters.ports, port), (filters.source_ports, own)):
        if ranges and not any(first <= number <= last for first, last in ranges):
            return False
    if filters.cidrs and not any(far in match.network(text) for text in filters.cidrs):
        return False
    return not any(far in match.network(text) for text in filters.exclude)


def _inodes(processes: Iterable[ProcessRef]) -> set[int]:
    return {inode for ref in processes for inode in _sockets(ref)}


def _sockets(ref: ProcessRef) -> Iterator[int]:
    folder = f"/proc/{ref.pid}/fd"
    try:
        for fd in os.listdir(folder):
            try:
                kind, _, inode = os.readlink(f"{folder}/{fd}").partition(":")
            except FileNotFoundError:  # closed meanwhile
                continue
            if kind == "socket":
                yield int(inode.strip("[]"))
    except OSError:  # it has ended meanwhile, or is closed to us
        return
