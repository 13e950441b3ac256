"""Edits that strike by the lease of this process, and count in what it holds for them in ``bpf.live``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from chaosd.kernel import bpf, links, match
from chaosd.kernel.edit import Control, Edit, Evidence, Hit, Undo

_TOP = 8


@runtime_checkable
class Tally(Protocol):
    """What is held for an edit, and counts."""

    def evidence(self) -> Evidence | None:
        """Events matched, hit and spared, and whose; None as long as nothing can have been met."""

    def hits(self) -> list[Hit]:
        """The events that were hit since this was last asked for."""


class Leased(Edit, frozen=True):
    """An edit that strikes only before the deadline of this process, and as often as its fault is to.

    Args:
        run, index: as in Planning.
    """

    run: str
    index: int

    @property
    def control(self) -> Control:
        """Any strength: what is chosen by chance is hit less often."""
        return "dial"

    @property
    def thins(self) -> bool:
        """Always."""
        return True

    def scale(self, strength: float, share: float) -> None:
        """Spare some of what is chosen."""
        bpf.lease().set_share(self.index, share * strength)

    def renew(self, until: float) -> None:
        """Move the deadline of everything that this process holds."""
        bpf.renew(until)

    def evidence(self) -> Evidence | None:
        """Events matched, hit and spared, and whose; None in a process that did not apply it."""
        held = bpf.live.get(self.slot)
        return held.evidence() if isinstance(held, Tally) else None

    def hits(self) -> list[Hit]:
        """The events that were hit since this was last asked for; some are left out when there are many."""
        held = bpf.live.get(self.slot)
        return held.hits() if isinstance(held, Tally) else []


class Loaded(Leased, frozen=True):
    """An edit that is wholly what this process holds: the kernel undoes it when that has ended."""

    def revert(self) -> Undo:
        """Let go of it; from another process there is nothing to do."""
        return Undo.DONE if bpf.close(self.slot) else Undo.GONE

    def present(self) -> bool:
        """Whether this process holds it."""
        return self.slot in bpf.live


class Counted(bpf.Held):
    """Several closables as one, among them a probe with the maps ``counts``, ``processes`` and ``hits``.

    Args:
        unit: what it counts.
        read: makes a hit of what the probe tells of it.
    """

    def __init__(self, unit: str, read: Callable[[bytes], Hit]) -> None:
        super().__init__()
        self._unit, self._read = unit, read
        self._taken: list[bytes] = []
        self._ring: links.Ring | None = None

    def watch(self, probe: bpf.Object) -> None:
        """Read what a probe counts from now on; it must be one of the parts."""
        self._counts, self._processes = probe.map("counts"), probe.map("processes")
        self._ring = links.Ring(probe.map("hits").fd, self._taken.append)
        self.parts.append(self._ring)

    def evidence(self) -> Evidence | None:
        """Events matched, hit and spared, and the processes with the most hits."""
        if self._ring is None:
            return None
        found = match.evidence(self._counts, self._unit)
        by_process = {
            int.from_bytes(key, "little"): int.from_bytes(value, "little")
            for key, value in self._processes.items(4)
        }
        top = sorted(by_process.items(), key=lambda item: -item[1])[:_TOP]
        return Evidence(found.matched, found.injected, found.skipped, found.unit, dict(top))

    def hits(self) -> list[Hit]:
        """The events that were hit since this was last asked for."""
        if self._ring is not None:
            self._ring.read()
        taken = self._taken[:]
        self._taken.clear()
        return [self._read(raw) for raw in taken]
