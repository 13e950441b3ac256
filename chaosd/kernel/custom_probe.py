"""A probe of the user's own, compiled on this host by bcc: probes/include/prelude.h makes it obey chaosd."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from contextlib import suppress

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf, custom_source, links, match, tasks
from chaosd.kernel.custom_child import Child, helpers
from chaosd.kernel.custom_source import Parameters
from chaosd.kernel.edit import Control, Edit, Evidence, Hit, Undo
from chaosd.kernel.tasks import Members

_MAPS = ("custom", "progress", "counts", "tasks", "processes", "within", "hits")
_HIT = struct.Struct("=QII16s")  # struct custom_hit of probes/include/custom.h
_FIRST = struct.pack("=I", 0)
_TOP = 8
_END_WITHIN = 2.0


class CustomProbe(Edit, frozen=True, tag="bpf.custom"):
    """A user's probe on a target; it is gone with its process, and that with this one.

    Args:
        run, index: as in Planning.
        members: who the target is.
        source: the absolute path of the C file.
        sha256: of the text when the run was planned.
        parameters: that the source finds as macros.
        rule: which of the events are hit.

    Prepare and apply it in the engine's main thread: PR_SET_PDEATHSIG fires when the creating
    *thread* ends.
    """

    run: str
    index: int
    members: Members
    source: str
    sha256: str
    parameters: Parameters
    rule: match.Rule

    @property
    def slot(self) -> str:
        """Its own name; probes stand side by side."""
        return f"bpf.custom:{self.run}:{self.index}"

    def describe(self) -> str:
        """One line: the source, and whom it is for."""
        given = ", ".join(f"{name}={value}" for name, value in self.parameters)
        told = f" with {given}" if given else ""
        return f"attach {self.source} (sha256 {self.sha256[:12]}){told} for {self.members.describe()}"

    def prepare(self) -> None:
        """Make the maps and let the process compile; nothing is attached yet.

        Raises:
            ChaosdError: the source is not the one that was planned with, or not to be trusted.
        """
        if self.slot in bpf.live:
            return
        found = custom_source.read(self.source)
        if found.sha256 != self.sha256:
            raise ChaosdError(f"{self.source} has changed since the run was planned", hint="plan it again")
        bpf.live[self.slot] = _Held(self, custom_source.compose(found, self.parameters))

    def ready(self) -> bool:
        """Whether it is compiled (``ChaosdError`` with the first thing that is wrong in the source)."""
        held = self._held()
        with _closed_on_error(self.slot):
            return held is None or held.child.compiled()

    def apply(self) -> None:
        """Let the kernel keep the target's processes, and attach what was compiled.

        Raises:
            ChaosdError: it does not compile, or the kernel refused it.
        """
        self.prepare()
        held = self._held()
        assert held is not None
        with _closed_on_error(self.slot):
            held.follow(self.members)
            held.child.attach()
            held.attached = True

    def _held(self) -> _Held | None:
        held = bpf.live.get(self.slot)
        return held if isinstance(held, _Held) else None

    def revert(self) -> Undo:
        """End the process that holds it.

        Raises:
            OSError: that process does not end.
        """
        found = bpf.close(self.slot)
        deadline = time.monotonic() + _END_WITHIN
        while left := list(helpers(self.run, self.index)):
            found = True
            for pid in left:
                _kill(pid, self)
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, f"process {left[0]}, which holds the probe, does not end")
            time.sleep(0.02)
        return Undo.DONE if found else Undo.GONE

    def present(self) -> bool:
        """Whether the process that holds it is there."""
        held = self._held()
        if held is not None:
            return held.attached and not held.child.problem()
        return any(helpers(self.run, self.index))

    def lost(self) -> str:
        """Why it strikes no more; empty while all is well."""
        held = self._held()
        if held is not None:
            return held.child.problem()
        return "" if self.present() else "its process is gone"

    @property
    def control(self) -> Control:
        """Any: fewer events are hit."""
        return "dial"

    @property
    def thins(self) -> bool:
        """Always."""
        return True

    def scale(self, strength: float, share: float) -> None:
        """Spare some of the events that are chosen."""
        bpf.lease().set_share(self.index, share * strength)

    def renew(self, until: float) -> None:
        """Move the deadline of all programs of this process; the probe reads the very same page."""
        bpf.renew(until)

    def evidence(self) -> Evidence | None:
        """Events met, hit and spared; None in a process that did not attach it."""
        held = self._held()
        return held.evidence() if held is not None and held.attached else None

    def hits(self) -> list[Hit]:
        """Events that were hit since this was last asked for."""
        held = self._held()
        name = os.path.basename(self.source)
        return [_hit(raw, name) for raw in held.drain()] if held is not None else []


class _Held(bpf.Held):
    """The maps of a probe, the process that holds it, and what it has told."""

    def __init__(self, edit: CustomProbe, text: str) -> None:
        super().__init__()
        self.attached = False
        self._taken: list[bytes] = []
        with bpf.undone_on_error(self):
            self._maps = bpf.Object("custom")
            self.parts.append(self._maps)
            self._fill(edit)
            self._ring = links.Ring(self._maps.map("hits").fd, self._taken.append)
            self.parts.append(self._ring)
            fds = {name: self._maps.map(name).fd for name in _MAPS} | {"lease": bpf.lease().fd}
            self.child = Child(edit.run, edit.index, text, fds)
            self.parts.append(self.child)

    def _fill(self, edit: CustomProbe) -> None:
        settings = edit.rule.pack() + struct.pack("=II", not edit.members.entire, 0)
        self._maps.map("custom").update(_FIRST, settings)
        folder = os.open(edit.members.attach.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._maps.map("within", 4).update(_FIRST, struct.pack("=I", folder))
        finally:
            os.close(folder)

    def follow(self, members: Members) -> None:
        if members.by_role:
            share = {"tasks": self._maps.map("tasks").fd}
            probe = bpf.Object("tag", struct.pack("=I", 1), share=share, programs=tasks.FOLLOW)
            self.parts.append(probe)
            tasks.follow(members, probe, self)

    def evidence(self) -> Evidence:
        found = match.evidence(self._maps.map("counts"), "events")
        by_process = {
            int.from_bytes(key, "little"): int.from_bytes(value, "little")
            for key, value in self._maps.map("processes").items(4)
        }
        top = sorted(by_process.items(), key=lambda item: -item[1])[:_TOP]
        return Evidence(found.matched, found.injected, found.skipped, found.unit, dict(top))

    def drain(self) -> list[bytes]:
        self._ring.read()
        taken = self._taken[:]
        self._taken.clear()
        return taken


class _closed_on_error:  # noqa: N801  # reads as a function
    def __init__(self, slot: str) -> None:
        self._slot = slot

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            bpf.close(self._slot)


def _hit(raw: bytes, name: str) -> Hit:
    at, pid, _, comm = _HIT.unpack(raw)
    return Hit(at / 1e9, pid, comm.partition(b"\0")[0].decode("utf-8", "replace"), name, "hit")


def _kill(pid: int, edit: CustomProbe) -> None:
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            if pid in helpers(edit.run, edit.index):  # still, now that the pidfd holds it
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
