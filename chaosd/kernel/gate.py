"""The gate: the eBPF program that picks the packets which get a fault (probes/gate.bpf.c)."""

from __future__ import annotations

import struct
from typing import Literal

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf, match, sockets
from chaosd.kernel.edit import Control, Evidence
from chaosd.kernel.leased import Loaded
from chaosd.kernel.netns import NetnsRef

Act = Literal["drop", "queue", "double"]
"""What happens to a chosen packet: dropped, handed to the filter's action, or sent twice."""

Program = Literal["chaosd_out", "chaosd_in", "chaosd_loop_out", "chaosd_loop_in"]
"""Where a gate stands: leaving or entering an interface, or one of the two directions of ``lo``."""

_ACTS: dict[Act, int] = {"drop": 0, "queue": 1, "double": 2}
_TAG = 0x4000
_FAULTS = 64
RANKS = 2 * _FAULTS
"""How many turns there are."""


class Gate(Loaded, frozen=True, tag="bpf.gate"):
    """A loaded gate; ``tc.Hook`` puts it on interfaces. It is gone with the process that loaded it.

    Args:
        run, index: as in Planning; the index is below 64.
        netns: where its hooks are.
        act: what is done to the chosen packets.
        filters, rule: which packets.
        once: packets that another gate has sent through an ifb are counted as "overlap" and spared,
            because the kernel skips the action of a second one.
        tagging: slot of the ``sockets.Tagging`` whose sockets alone are meant; empty for all.
    """

    netns: NetnsRef
    act: Act
    filters: match.Filters
    rule: match.Rule
    tagging: str = ""
    once: bool = False

    @property
    def slot(self) -> str:
        """Its own name; a gate takes nothing from anybody."""
        return f"bpf.gate:{self.run}:{self.index}"

    @property
    def rank(self) -> int:
        """Its turn, 0 to 127: what drops or doubles comes before what queues."""
        return self.index + (_FAULTS if self.act == "queue" else 0)

    @property
    def mark(self) -> int:
        """What it leaves in tc_index, so that no gate up to its turn takes the packet once more."""
        return _TAG | (self.netns.inode % 64) << 8 | self.rank

    def describe(self) -> str:
        """One line: which packets it picks."""
        who = " of the target's sockets" if self.tagging else ""
        return f"load a gate for {self.filters}{who}"

    def apply(self) -> None:
        """Load the programs and fill their maps (``UnsupportedError`` as the kernel says)."""
        share = {}
        if self.tagging:
            share = {"tagged": sockets.tags_of(self.tagging)}
        config = self.rule.pack() + self.filters.pack()
        config += struct.pack("=HBBI", self.mark, _ACTS[self.act], bool(self.tagging), self.once)
        probe = bpf.Object("gate", config, share=share)
        bpf.live[self.slot] = probe
        self.filters.fill(probe)

    @property
    def control(self) -> Control:
        """A queue behind it has a strength of its own; what drops or doubles does so to fewer."""
        return "switch" if self.act == "queue" else "dial"

    def scale(self, strength: float, share: float) -> None:
        """Spare some of what is chosen."""
        super().scale(float(bool(strength)) if self.act == "queue" else strength, share)

    def evidence(self) -> Evidence | None:
        """Packets matched, hit and spared; None in a process that did not load it."""
        probe = bpf.live.get(self.slot)
        return match.evidence(probe.map("counts"), "packets") if isinstance(probe, bpf.Object) else None


def program(slot: str, name: Program) -> int:
    """The descriptor of a program of the gate in a slot (``ChaosdError`` if it is not loaded)."""
    probe = bpf.live.get(slot)
    if not isinstance(probe, bpf.Object):
        raise ChaosdError(f"{slot} is not loaded in this process")
    return probe.program(name)
