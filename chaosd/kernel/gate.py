"""The gate: the eBPF program that picks the packets which get a fault (probes/gate.bpf.c)."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import Literal

import msgspec

from chaosd.errors import ChaosdError
from chaosd.kernel import ahead, bpf, match, sockets
from chaosd.kernel.coming import Coming
from chaosd.kernel.edit import Control, Evidence
from chaosd.kernel.leased import Loaded
from chaosd.kernel.netns import NetnsRef

Act = Literal["drop", "queue", "double", "answer"]
"""What happens to a chosen packet: it is dropped, handed to the filter's action, sent twice, or turned
into its own answer."""

Program = Literal["chaosd_out", "chaosd_in", "chaosd_loop_out", "chaosd_loop_in"]
"""Where a gate stands: leaving or entering an interface, or one of the two directions of ``lo``."""

_ACTS: dict[Act, int] = {"drop": 0, "queue": 1, "double": 2, "answer": 3}
_KINDS = ("packets", "connections", "queries")
_PLAIN = bytes(8)  # struct gate: drops, any packets
_AIM, _AIM_SIZE = ".rodata.aim", 112  # struct aim
_READ_ONLY = 1 << 7  # BPF_F_RDONLY_PROG
_PORTS = 64  # that a gate loaded ahead has room for
_NAME = 256  # probes/include/kind.h
_TAG = 0x4000
_FAULTS = 64
RANKS = 2 * _FAULTS
"""How many turns there are."""


class Traffic(msgspec.Struct, frozen=True):
    """What kind of packet is meant, besides the filters.

    Args:
        unit: any packet; or those that begin a TCP connection; or DNS questions over UDP, and what
            begins a TCP connection over which they could come. All but the first can be answered: a
            connection by a refusal.
        names: only questions for these; ``.example.com`` or ``*.example.com`` is example.com and
            whatever is below it.
        code: what a question is answered with (RCODE; RFC 1035, 4.1.1).
        anew: on lo, have answers routed and translated as if they came from a wire, for servers behind
            NAT; needs the sysctls of ``open_lo`` (chaosd/faults/_network.py).
    """

    unit: Literal["packets", "connections", "queries"] = "packets"
    names: tuple[str, ...] = ()
    code: int = 0
    anew: bool = False

    def __str__(self) -> str:
        return f"{self.unit} for {', '.join(self.names)}" if self.names else self.unit


ANY = Traffic()
"""Any packet."""


def backwards(pattern: str) -> bytes:
    """A name or a pattern as struct backwards of probes/include/kind.h, for the map of names.

    Args:
        pattern: a domain name in ASCII, with ``.`` or ``*.`` before it if names below it
            are meant, too.

    Raises:
        ValueError: it is no domain name.
    """
    below = pattern.startswith((".", "*."))
    name = pattern.partition(".")[2] if below else pattern
    labels = name.removesuffix(".").lower().encode("ascii").split(b".")
    if not all(0 < len(label) < 64 and b"*" not in label for label in labels):
        raise ValueError(pattern)
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(wire) >= _NAME:
        raise ValueError(pattern)
    key = wire[::-1] + (b"" if below else b"\xff")
    return struct.pack("=I", 8 * len(key)) + key.ljust(_NAME, b"\0")


class Gate(Loaded, frozen=True, tag="bpf.gate"):
    """A loaded gate; ``tc.Hook`` puts it on interfaces. It is gone with the process that loaded it.

    Args:
        run, index: as in Planning; the index is below 64.
        netns: where its hooks are.
        act: what is done to the chosen packets.
        filters, rule: which packets.
        traffic: what they must be.
        programs: those that hooks will ask for, which are loaded; all when empty.
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
    traffic: Traffic = ANY
    programs: tuple[Program, ...] = ()

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
        what = "" if self.traffic == ANY else f"{self.traffic}, "
        return f"load a gate for {what}{self.filters}{who}"

    def prepare(self) -> None:
        """Begin to load the programs; no packet meets them yet."""
        if self not in _coming:
            here = not self.tagging or sockets.is_here(self.tagging)
            ready = self._take() if here else None
            _coming[self] = Coming(lambda: self._load(ready), ready=ready is not None)

    def apply(self) -> None:
        """Load the programs and fill their maps (``UnsupportedError`` as the kernel says)."""
        self.prepare()
        probe, tagger = _coming.pop(self).get()
        if tagger is not self._tagger():  # prepared for a target that went before it was met
            probe.close()
            probe, _ = self._load(None)
        bpf.live[self.slot] = probe
        self.filters.fill(probe)
        for name in self.traffic.names:
            probe.map("names").update(backwards(name), b"\1")

    def _tagger(self) -> bpf.Object | None:
        return sockets.tagger_of(self.tagging) if self.tagging else None

    def _take(self) -> _Ready | None:
        with suppress(IndexError):  # none, or another thread has been faster
            ready = _ahead.pop()
            if ready.fits(self._kind, self._tagger(), self.filters.room, self.programs):
                return ready
            _ahead.append(ready)
        return None

    def _load(self, ready: _Ready | None) -> tuple[bpf.Object, bpf.Object | None]:
        tagger = self._tagger()
        aim = self.rule.pack() + self.filters.pack() + struct.pack("=HB5x", self.mark, bool(self.tagging))
        if ready is not None:
            ready.meet(aim)
        else:
            ready = _Ready(self._kind, tagger, self.filters.room, self.programs, aim)
        return ready.probe, tagger

    @property
    def _kind(self) -> bytes:
        what = self.traffic
        kind = (_KINDS.index(what.unit), bool(what.names), what.code, self.once, what.anew)
        return struct.pack("=6B2x", _ACTS[self.act], *kind)

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
        return (
            match.evidence(probe.map("counts"), self.traffic.unit) if isinstance(probe, bpf.Object) else None
        )


class _Ready:
    """A gate's programs in the kernel.

    They know what they do, and unless that is yet to be said (``aim``: struct aim), whom they meet: then the
    verifier knows, too, and does not follow what cannot be.
    """

    def __init__(
        self,
        kind: bytes,
        tagger: bpf.Object | None,
        room: dict[str, int],
        programs: tuple[Program, ...],
        aim: bytes = b"",
    ) -> None:
        constants = bpf.array("chaosd_aim", _AIM_SIZE, _READ_ONLY)
        try:
            if aim:
                bpf.fix(constants, aim)
            share = {_AIM: constants} | ({"tagged": tagger.map("tagged").fd} if tagger else {})
            self.probe = bpf.Object("gate", kind, share=share, room=room, programs=programs)
        finally:
            os.close(constants)
        self._made = kind, tagger, room, programs

    def meet(self, aim: bytes) -> None:
        """Say whom."""
        bpf.fix(self.probe.map(_AIM).fd, aim)

    def fits(
        self, kind: bytes, tagger: bpf.Object | None, room: dict[str, int], programs: tuple[Program, ...]
    ) -> bool:
        """Whether it does as well as one made for this."""
        my_kind, my_tagger, my_room, mine = self._made
        enough = all(my_room[name] >= entries for name, entries in room.items())
        has = bool(programs) and {*programs} <= {*mine}  # none stands for all
        return has and kind == my_kind and tagger in (None, my_tagger) and enough


def load_ahead() -> None:
    """Have one loaded for the first fault of this process, if that drops packets that leave its target.

    It knows the sockets that the probe knows which is ready in ``ahead``. This must not be called where more
    runs than one begin, for the lease and the counts are in it.

    Raises:
        UnsupportedError: the kernel refused it; one that knows whom it meets may be taken all the same.
    """
    _ahead.append(_Ready(_PLAIN, ahead.tag(), {"ports": _PORTS}, ("chaosd_out", "chaosd_loop_out")))


_ahead: list[_Ready] = []


_coming: dict[Gate, Coming[tuple[bpf.Object, bpf.Object | None]]] = {}


def program(slot: str, name: Program) -> int:
    """The descriptor of a program of the gate in a slot (``ChaosdError`` if it is not loaded)."""
    probe = bpf.live.get(slot)
    if not isinstance(probe, bpf.Object):
        raise ChaosdError(f"{slot} is not loaded in this process")
    return probe.program(name)
