"""The processes of a target as eBPF programs see them: a whole v2 cgroup, or a set that the kernel keeps.

The set is seeded from /proc and from then on extended at every fork and cut at every exit by
probes/tag.bpf.c, so that a child started later belongs to it from its first instruction.
"""

from __future__ import annotations

import struct

import msgspec

from chaosd.kernel import bpf, cgroup
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.process import ProcessRef, family

FOLLOW = ("chaosd_fork", "chaosd_exit")
"""The programs that keep the set."""


class Members(msgspec.Struct, frozen=True):
    """Who belongs to a target.

    Args:
        attach: the v2 cgroup that programs are attached to.
        entire: all of that cgroup is the target; otherwise ``processes`` and what they start,
            and whoever is in ``folder``.
        processes: the target's processes when the run was planned.
        folder: a v1 cgroup that is wholly the target's; empty if there is none.
    """

    attach: CgroupRef
    entire: bool
    processes: tuple[ProcessRef, ...] = ()
    folder: str = ""

    def describe(self) -> str:
        """In words, for a plan."""
        if self.entire:
            return f"cgroup {self.attach.path}"
        pids = ", ".join(str(ref.pid) for ref in self.processes[:4])
        return f"pid {pids}{' ...' if len(self.processes) > 4 else ''} and children"

    def now(self) -> set[ProcessRef]:
        """Who belongs to it at this moment."""
        if self.entire:
            return _refs(cgroup.members(self.attach.path))
        return set(family(self.processes)) | (_refs(cgroup.members(self.folder)) if self.folder else set())


def _refs(pids: list[int]) -> set[ProcessRef]:
    found = set()
    for pid in pids:
        try:
            found.add(ProcessRef.of(pid))
        except ProcessLookupError:
            continue
    return found


def follow(members: Members, probe: bpf.Object, held: bpf.Held) -> None:
    """Let the kernel keep the set ``tasks`` of a loaded tag probe, and seed it.

    The hooks come first: a child made before its parent was in the set is seen by the next look,
    and one made after it by the hook.
    """
    for program, event in zip(FOLLOW, ("sched_process_fork", "sched_process_exit"), strict=True):
        held.parts.append(bpf.link_raw_tracepoint(probe.program(program), event))
    tasks = probe.map("tasks", 4)
    known: set[ProcessRef] = set()
    while fresh := members.now() - known:
        for ref in fresh:
            _add(tasks, ref)
        known |= fresh


def _add(tasks: bpf.Map, ref: ProcessRef) -> None:
    key = struct.pack("=I", ref.pid)
    tasks.update(key, struct.pack("=I", 1))
    if not ref.alive():  # its exit may have come before the entry
        tasks.delete(key)
