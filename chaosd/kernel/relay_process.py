"""The relay's own process: reads frames from a TAP device, holds them, writes them back.

Standard input ends when the engine has ended; a shared page takes the counters. It needs the standard
library alone, see ``relay_start``.

What is done to a frame follows sch_netem's ``netem_enqueue`` (net/sched/sch_netem.c) step by step.
"""

from __future__ import annotations

import math
import os
import struct
from _random import Random  # what `random` is built on, without its imports
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from mmap import mmap
from select import select
from time import monotonic

COUNTERS = (
    *("frames_in", "bytes_in", "frames_out", "bytes_out", "hit", "over_limit", "refused"),
    *("corrupted", "duplicated", "reordered", "late_frames", "late_total_us", "late_max_us"),
)
"""The names of the unsigned 64-bit numbers in the shared page, in order."""

LAYOUT = struct.Struct(f"={len(COUNTERS)}Q")

_GSO_FIELDS = struct.Struct("=BHHHH")  # gso_type, hdr_len, gso_size, csum_start, csum_offset
_VNET_HEADER = 10  # struct virtio_net_hdr, the default of TUNGETVNETHDRSZ
_ETHERNET = 14
_LARGEST = 68 * 1024  # 64 KiB, two VLAN tags and both headers; below malloc's mmap threshold
_BURST = 32  # frames read, or written, before the other side gets its turn
_OVERSLEPT = 50e-6  # seconds by which a sleep runs over: taken to begin with, then measured
_OVERSLEPT_MOST = 150e-6
_SIGMAS = 4.0  # iproute2's distribution tables are 16 bit at 8192 to the sigma
_TINY = 1e-9
_WEAKENED = 65  # the first of its kind in struct lease, probes/include/outcome.h

_Held = tuple[float, int, bytes]  # when it is due, its number, the frame
_Queue = tuple[Sequence[_Held], Callable[[_Held], None], Callable[[], _Held]]  # itself, push, pop


class Dice:
    """Random numbers from 0 to 1, each pulled towards the one before (netem's get_crandom)."""

    def __init__(self, draw: Callable[[], float], correlation: float) -> None:
        self._draw, self._correlation = draw, correlation
        self._last = draw()

    def roll(self) -> float:
        """The next number."""
        self._last = self._draw() * (1 - self._correlation) + self._last * self._correlation
        return self._last


def pareto(u: float) -> float:
    """Quantile of the Pareto distribution of shape 3, moved and scaled as tc-netem's is."""
    return min(_SIGMAS, (math.pow(max(u, _TINY), -1 / 3) - 1.5) * 4 / 3)


def distribution(name: str) -> Callable[[float], float]:
    """The function that makes of a number from 0 to 1 a deviation in units of the jitter."""
    if name in ("uniform", "pareto"):
        return pareto if name == "pareto" else lambda u: 2 * u - 1
    from statistics import NormalDist

    inverse = NormalDist().inv_cdf

    def normal(u: float) -> float:
        return max(-_SIGMAS, min(_SIGMAS, inverse(min(max(u, _TINY), 1 - _TINY))))

    # Both summands grow with u, so the sum is a quantile again.
    return normal if name == "normal" else lambda u: 0.25 * normal(u) + 0.75 * pareto(1 - u)


def wire_length(frame: bytes) -> int:
    """Bytes on the wire of a frame behind its virtio_net_hdr, all segments' headers counted.

    The kernel does the same for a qdisc in qdisc_pkt_len_init (net/core/dev.c).
    """
    length = len(frame) - _VNET_HEADER
    fields: tuple[int, ...] = _GSO_FIELDS.unpack_from(frame, 1)
    kind, _, size, start, offset = fields
    if not kind or not size:
        return length
    tcp = offset == 16  # where TCP keeps its checksum; UDP: 6
    header = start + ((frame[_VNET_HEADER + start + 12] >> 4) * 4 if tcp else 8)
    return length + max(0, -(-(length - header) // size) - 1) * header


def _queue(*, in_order: bool) -> _Queue:
    line: deque[_Held] = deque()
    if in_order:
        return line, line.append, line.popleft
    heap: list[_Held] = []
    return heap, lambda held: heappush(heap, held), lambda: heappop(heap)


class Relay:
    """Frames in flight on one TAP device.

    Args:
        tap: non-blocking descriptor of the TAP, IFF_VNET_HDR set.
        settings: the numbers among the fields of the edit, by name.
        kind: the distribution of the jitter.
        page: where the counters go.
        lease: struct lease of probes/include/outcome.h.
    """

    def __init__(self, tap: int, settings: dict[str, float], kind: str, page: mmap, lease: mmap) -> None:
        self._lease, self._place = memoryview(lease).cast("Q"), _WEAKENED + int(settings["fault"])
        self._strength = 1.0
        self._tap, self._page, self._set = tap, page, settings
        self._draw = Random(int(settings["seed"])).random
        self._deviation = distribution(kind)
        self._wait = Dice(self._draw, settings["correlation"]).roll
        self._corrupt = Dice(self._draw, settings["corrupt_correlation"]).roll
        self._duplicate = Dice(self._draw, settings["duplicate_correlation"]).roll
        self._reorder = Dice(self._draw, settings["reorder_correlation"]).roll
        self._held = bool(settings["delay"] or settings["jitter"] or settings["rate"])
        # With a rate each frame waits for the one before, so only jitter alone changes the order.
        in_order = bool(settings["rate"]) or not settings["jitter"]
        self._queue, self._push, self._pop = _queue(in_order=in_order)
        self._since_reorder = self._number = 0
        self._last_due, self._early = 0.0, 2 * _OVERSLEPT
        self._simple = not any(settings[name] for name in ("corrupt", "duplicate", "reorder", "gap"))
        self.counts = dict.fromkeys(COUNTERS, 0)

    def run(self, control: int) -> None:
        """Relay until ``control`` can be read, which means that its other end is closed.

        Raises:
            OSError: the TAP device is gone (EBADFD).
        """
        while True:
            patience = self._patience()
            readable = select((self._tap, control), (), (), patience)[0]
            if control in readable:
                return
            if readable:
                self._receive()
            elif patience:
                self._learn()
            self._send()
            self._publish()

    def _patience(self) -> float | None:
        return max(0.0, self._queue[0][0] - self._early - monotonic()) if self._queue else None

    def _learn(self) -> None:
        over = min(_OVERSLEPT_MOST, monotonic() - self._queue[0][0] + self._early)
        # Twice, since the frame had to wait for one such sleep to end before it was read.
        self._early += (2 * over - self._early) / 16

    def _receive(self) -> None:
        self._strength = 1 - self._lease[self._place] / (1 << 32)
        accept = self._schedule if self._simple and self._held else self._enqueue
        received = size = hit = 0
        try:
            for _ in range(_BURST):
                frame = os.read(self._tap, _LARGEST)
                received += 1
                size += len(frame)
                hit += accept(frame, monotonic())
        except BlockingIOError:
            pass
        self.counts["frames_in"] += received
        self.counts["bytes_in"] += size - received * _VNET_HEADER
        self.counts["hit"] += hit

    def _enqueue(self, frame: bytes, now: float) -> bool:
        twice = bool(self._set["duplicate"]) and self._duplicate() < self._set["duplicate"]
        hit = self._treat(frame, now)
        if twice:
            self.counts["duplicated"] += 1
            self._treat(frame, now)
        return hit or twice

    def _treat(self, frame: bytes, now: float) -> bool:
        corrupt = bool(self._set["corrupt"]) and self._corrupt() < self._set["corrupt"] * self._strength
        if corrupt:
            frame = self._flip(frame)
        if self._held and not self._jumps():
            return self._schedule(frame, now)
        self._write(frame)
        return corrupt or self._held

    def _flip(self, frame: bytes) -> bytes:
        start = _VNET_HEADER + _ETHERNET
        if len(frame) <= start:
            return frame
        self.counts["corrupted"] += 1
        place = start + int(self._draw() * (len(frame) - start))
        bit = 1 << int(self._draw() * 8)
        return frame[:place] + bytes((frame[place] ^ bit,)) + frame[place + 1 :]

    def _jumps(self) -> bool:
        chance, gap = self._set["reorder"], self._set["gap"]
        if not (chance or gap) or self._since_reorder < gap - 1:
            return False
        # A gap alone means every gap-th frame (netem_change: "assume 100% probability").
        if chance and self._reorder() >= chance:
            return False
        self._since_reorder = 0
        self.counts["reordered"] += 1
        return True

    def _schedule(self, frame: bytes, now: float) -> bool:
        settings = self._set
        if len(self._queue) >= settings["limit"]:
            self.counts["over_limit"] += 1
            return False
        self._since_reorder += 1
        wait = settings["delay"]
        if settings["jitter"]:
            wait = max(0.0, wait + settings["jitter"] * self._deviation(self._wait()))
        due = now + wait * self._strength
        if settings["rate"]:
            due = max(due, self._last_due) + wire_length(frame) * 8 * self._strength / settings["rate"]
            self._last_due = due
        self._number += 1
        self._push((due, self._number, frame))
        return True

    def _send(self) -> None:
        queue, counts = self._queue, self.counts
        for _ in range(min(_BURST, len(queue))):
            late = monotonic() - queue[0][0]
            if late < -self._early:
                return
            self._write(self._pop()[2])
            late_us = max(0, int(late * 1e6))
            counts["late_frames"] += 1
            counts["late_total_us"] += late_us
            counts["late_max_us"] = max(late_us, counts["late_max_us"])

    def _write(self, frame: bytes) -> None:
        try:
            size = os.write(self._tap, frame)
        except OSError:
            # EIO when the TAP is down, EINVAL for a header the kernel does not take: the frame is
            # lost. A TAP that is gone says EBADFD to the next read as well, which ends the relay.
            self.counts["refused"] += 1
            return
        self.counts["frames_out"] += 1
        self.counts["bytes_out"] += size - _VNET_HEADER

    def _publish(self) -> None:
        LAYOUT.pack_into(self._page, 0, *self.counts.values())
