"""The relay: what holds, spoils and multiplies frames on kernels without sch_netem.

A TAP device of ours takes the frames that a gate filter redirects to it; a process reads them,
treats them as netem would, and writes them back, so that they appear on the device's ingress.
The kernel owns the undo: the device is not persistent and dies with the process, and the process
dies with the engine (PR_SET_PDEATHSIG, and the end of its standard input).
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf, helper, relay_process, tap
from chaosd.kernel.edit import MARK, Control, Edit, Evidence, Undo
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.relay_child import Child
from chaosd.units import Duration, Percent, Rate

_START_WITHIN = 10.0
_END_WITHIN = 2.0

Shape = Literal["uniform", "normal", "pareto", "paretonormal"]


class Counts(msgspec.Struct, frozen=True):
    """What the relay has counted so far; the frame is the unit, and a GSO frame is one.

    ``hit`` frames got any part of the fault. ``over_limit`` found the queue full, ``refused``
    could not be written back, ``overrun`` came faster than the process could read. ``late``
    is how much after its time a held frame was written, in microseconds.
    """

    frames_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0
    hit: int = 0
    over_limit: int = 0
    refused: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0
    late_frames: int = 0
    late_total_us: int = 0
    late_max_us: int = 0
    overrun: int = 0


_children: dict[Relay, Child] = {}


class Relay(Edit, frozen=True, tag="relay"):
    """A TAP device and the process that relays its frames, up and ready when applied.

    Args:
        netns: where the device is. The process keeps this namespace alive while it runs.
        name: of the device, at most 15 characters, starting with "chaosd".
        delay, jitter: seconds; a frame waits for delay, more or less by at most (uniform) or
            typically (the other shapes) the jitter.
        correlation: 0 to 1, of each delay with the one before; likewise the others below.
        distribution: the shape of the jitter.
        corrupt: fraction of the frames that get one bit flipped after the Ethernet header.
        duplicate: fraction sent twice; the copy has its own delay.
        reorder: fraction sent at once, ahead of the delayed ones; ``gap`` limits this to every
            gap-th frame, and alone means exactly every gap-th.
        rate: bits per second, 0 for no limit.
        limit: frames held at most; more are dropped and counted.
        seed: of every random choice.
        fault: its place in ``bpf.Lease``, whose strength makes delays shorter and rates higher.

    Prepare and apply it in the engine's main thread: PR_SET_PDEATHSIG fires when the creating
    *thread* ends.
    """

    netns: NetnsRef
    name: str
    delay: float = 0.0
    jitter: float = 0.0
    correlation: float = 0.0
    distribution: Shape = "uniform"
    corrupt: float = 0.0
    corrupt_correlation: float = 0.0
    duplicate: float = 0.0
    duplicate_correlation: float = 0.0
    reorder: float = 0.0
    reorder_correlation: float = 0.0
    gap: int = 0
    rate: float = 0.0
    limit: int = 1000
    seed: int = 0
    fault: int = 0

    @property
    def slot(self) -> str:
        """The device's name in its namespace."""
        return f"link:{self.netns.inode}:{self.name}"

    def describe(self) -> str:
        """One line: the device and what is done to its frames."""
        return f"relay frames through TAP device {self.name}: {', '.join(self._parts()) or 'unchanged'}"

    def _parts(self) -> Iterator[str]:
        if self.delay or self.jitter:
            about = f" ± {Duration(self.jitter)} ({self.distribution})" if self.jitter else ""
            yield f"hold for {Duration(self.delay)}{about}"
        for what in ("corrupt", "duplicate", "reorder"):
            if share := getattr(self, what):
                yield f"{what} {Percent(share * 100)}"
        if self.gap:
            yield f"at once only every {self.gap}. frame"
        if self.rate:
            yield f"at most {Rate(self.rate)}/s"

    @property
    def _facts(self) -> tuple[str, int]:
        return self.name, self.netns.inode

    def prepare(self) -> None:
        """Start the process, which takes longest; it holds no device yet, and waits for one.

        Raises:
            UnsupportedError: this kernel has no TUN/TAP.
            FileNotFoundError: the namespace is gone.
        """
        if self not in _children:
            _children[self] = self._start()

    def apply(self) -> None:
        """Make the device and let the process begin.

        Raises:
            UnsupportedError: this kernel has no TUN/TAP.
            ForeignStateError: there is a device of this name already.
            FileNotFoundError: the namespace is gone.
            ChaosdError: the process did not start.
        """
        if not self.name.startswith(MARK) or len(self.name) > 15:
            raise ChaosdError(f"{self.name!r} is no name for a relay", hint=f"{MARK}..., up to 15 characters")
        self.prepare()
        child = _children[self]
        try:
            tap.create(child.device.fileno(), self.netns, self.name, offload=not self.corrupt)
            if not child.begin(_START_WITHIN):
                raise ChaosdError(f"the relay of {self.name} did not start: {child.end()}")
        except (ChaosdError, OSError):
            _children.pop(self).close()
            raise

    def _start(self) -> Child:
        settings = (f"{key}={getattr(self, key)!r}" for key in _SETTINGS)
        return Child(tap.open_in(self.netns), self._facts, (self.distribution, *settings))

    @property
    def control(self) -> Control:
        """Any strength."""
        return "dial"

    def scale(self, strength: float, share: float) -> None:
        """Delay and spoil less, or let more through; at strength 0 the gate in front sends nothing here."""
        bpf.lease().set_strength(self.fault, strength or 1.0)

    def revert(self) -> Undo:
        """End the process, which takes the device along; frames it holds are dropped, as by netem.

        Raises:
            OSError: the device is still there although its process was ended.
        """
        found = self.present()
        child = _children.pop(self, None)
        if child is not None:
            child.close()
        deadline = time.monotonic() + _END_WITHIN
        ended = 0
        while self.present():
            ended += sum(helper.send(pid, signal.SIGKILL, self._holders) for pid in self._holders())
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)  # a process that is ending takes its device along a little later
        else:
            return Undo.DONE if found else self._absence()
        if not ended:
            return Undo.FOREIGN
        raise OSError(errno.EBUSY, f"device {self.name} is still there although its relay was ended")

    def _absence(self) -> Undo:
        with suppress(FileNotFoundError):
            if tap.kind(self.netns, self.name):
                return Undo.FOREIGN
        return Undo.GONE

    def _holders(self) -> set[int]:
        ours = set(helper.running("relay_start", *self._facts))
        return ours & set(tap.holders(self.name)) if ours else ours

    def present(self) -> bool:
        """Whether a TAP device of this name exists in the namespace."""
        try:
            return tap.kind(self.netns, self.name) == "tap"
        except FileNotFoundError:  # nothing leads to the namespace, but its relay may keep it alive
            return bool(self._holders())

    def lost(self) -> str:
        """Why no frame is relayed any more; empty while all is well."""
        child = _children.get(self)
        if child is None:
            return "" if self.present() else f"the relay of {self.name} is gone"
        if child.process.poll() is None:
            return ""
        return f"the relay of {self.name} ended by itself with {child.end()}"

    def counts(self) -> Counts | None:
        """The relay's counters; None but in the process that applied it, until it is reverted."""
        child = _children.get(self)
        if child is None:
            return None
        overrun = 0
        with suppress(FileNotFoundError):
            overrun = tap.drops(self.netns, self.name)
        numbers = relay_process.LAYOUT.unpack_from(child.page)
        return Counts(**dict(zip(relay_process.COUNTERS, numbers, strict=True)), overrun=overrun)

    def evidence(self) -> Evidence | None:
        """Frames that were lost on the way; the gate in front has counted those that were sent here."""
        seen = self.counts()
        if seen is None:
            return None
        lost = {"limit": seen.over_limit, "overrun": seen.overrun}
        return Evidence(skipped={reason: count for reason, count in lost.items() if count})


_SETTINGS = [name for name in Relay.__struct_fields__ if name not in ("netns", "name", "distribution")]
