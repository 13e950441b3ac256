"""A probe of the user's own, compiled on this host by bcc: probes/include/prelude.h makes it obey chaosd."""

from __future__ import annotations

import os
import signal
import struct
from functools import partial

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf, custom_source, helper, match, tasks
from chaosd.kernel.custom_child import Child, helpers
from chaosd.kernel.custom_source import Parameters
from chaosd.kernel.edit import Hit, Undo
from chaosd.kernel.leased import Counted, Leased
from chaosd.kernel.tasks import Members

_MAPS = ("custom", "progress", "counts", "tasks", "processes", "within", "hits")
_HIT = struct.Struct("=QII16s")  # struct custom_hit of probes/include/custom.h
_FIRST = struct.pack("=I", 0)


class CustomProbe(Leased, frozen=True, tag="bpf.custom"):
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
        held = bpf.close(self.slot)
        others = partial(helpers, self.run, self.index)
        ended = helper.end("the probe's process", others, signal.SIGKILL)
        return Undo.DONE if held or ended else Undo.GONE

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


class _Held(Counted):
    """The maps of a probe, and the process that holds it."""

    def __init__(self, edit: CustomProbe, text: str) -> None:
        super().__init__("events", partial(_hit, name=os.path.basename(edit.source)))
        self.attached = False
        with bpf.undone_on_error(self):
            self._maps = bpf.Object("custom")
            self.parts.append(self._maps)
            self._fill(edit)
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
        self.watch(self._maps)
        if members.by_role:
            share = {"tasks": self._maps.map("tasks").fd}
            probe = bpf.Object("tag", struct.pack("=I", 1), share=share, programs=tasks.FOLLOW)
            self.parts.append(probe)
            tasks.follow(members, probe, self)


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
