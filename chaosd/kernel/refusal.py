"""connect(2) made to fail, by links on a cgroup (probes/connect.bpf.c)."""

from __future__ import annotations

import errno
import struct

from chaosd.kernel import bpf, links, match, tasks
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.tasks import Members


class Refusal(Edit, frozen=True, tag="bpf.refusal"):
    """Connections of a target fail with an errno; the links are gone with this process.

    Args:
        run, index: as in Planning.
        members: who the target is.
        error: the errno.
        filters: which destinations.
        rule: how many of the attempts.
    """

    run: str
    index: int
    members: Members
    error: int
    filters: match.Filters
    rule: match.Rule

    @property
    def slot(self) -> str:
        """Its own name; cgroup links stand side by side."""
        return f"bpf.refusal:{self.run}:{self.index}"

    def describe(self) -> str:
        """One line: whose connections, where to, and the error."""
        name = errno.errorcode[self.error]
        return f"fail connect() of {self.members.describe()} with {name}, for {self.filters}"

    def apply(self) -> None:
        """Load and attach (``UnsupportedError`` as the kernel says)."""
        held = bpf.Held()
        with bpf.undone_on_error(held):
            share = tasks.attach_following(self.members, held)
            config = self.rule.pack() + self.filters.pack()
            config += struct.pack("=iI", -self.error, not self.members.entire)
            probe = bpf.Object("connect", config, share=share)
            held.parts.append(probe)
            self.filters.fill(probe)
            path = self.members.attach.path
            held.parts.append(
                links.link_cgroup(probe.program("chaosd_connect4"), path, links.CGROUP_CONNECT4)
            )
            held.parts.append(
                links.link_cgroup(probe.program("chaosd_connect6"), path, links.CGROUP_CONNECT6)
            )
        bpf.live[self.slot] = held

    def revert(self) -> Undo:
        """Detach; from another process there is nothing left to do."""
        return Undo.DONE if bpf.close(self.slot) else Undo.GONE

    def present(self) -> bool:
        """Whether this process holds the links."""
        return self.slot in bpf.live

    def renew(self, until: float) -> None:
        """Move the deadline of all programs of this process."""
        bpf.renew(until)

    def evidence(self) -> Evidence | None:
        """Attempts matched, refused and spared; None in a process that did not attach."""
        held = bpf.live.get(self.slot)
        if not isinstance(held, bpf.Held):
            return None
        probe = next(p for p in held.parts if isinstance(p, bpf.Object) and p.name == "connect")
        return match.evidence(probe.map("counts"), "connections")
