"""The processes of a target as eBPF programs see them: a whole v2 cgroup, or a set that the kernel keeps.

The set is seeded from /proc and from then on extended at every fork and cut at every exit by
probes/tag.bpf.c, so that a child started later belongs to it from its first instruction.
"""

from __future__ import annotations

import os
import struct

import msgspec

from chaosd.kernel import ahead, bpf, cgroup, links
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.process import ProcessRef, family

_TARGET, _EXEMPT, _SPARED = 1, 2, 3  # probes/include/tasks.h
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
        spared: processes that are never hit although they are in the cgroup: of a whole host.
            What they start is spared, too; but not what the first process of the host starts.
    """

    attach: CgroupRef
    entire: bool
    processes: tuple[ProcessRef, ...] = ()
    folder: str = ""
    spared: tuple[ProcessRef, ...] = ()

    @property
    def by_role(self) -> bool:
        """Whether programs must ask for the role of each process."""
        return not self.entire or bool(self.spared)

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
    """Let the kernel keep the map ``tasks`` of a loaded tag probe, and seed it.

    The hooks come first: a child made before its parent was in the map is seen by the next look,
    and one made after it by the hook. Chaosd with its helpers is exempt unless it is named.
    """
    for program, event in zip(FOLLOW, ("sched_process_fork", "sched_process_exit"), strict=True):
        held.parts.append(links.link_raw_tracepoint(probe.program(program), event))
    tasks = probe.map("tasks", 4)
    known: set[ProcessRef] = set()
    while not members.entire and (fresh := members.now() - known):
        for ref in fresh:
            _add(tasks, ref, _TARGET)
        known |= fresh
    for ref in {*members.spared, *family([ProcessRef.of(os.getpid())])} - known:
        _add(tasks, ref, _SPARED if ref.pid == 1 else _EXEMPT)


def _add(tasks: bpf.Map, ref: ProcessRef, role: int) -> None:
    key = struct.pack("=I", ref.pid)
    tasks.update(key, struct.pack("=I", role))
    if not ref.alive():  # its exit may have come before the entry
        tasks.delete(key)


def attach_following(members: Members, held: bpf.Held) -> dict[str, int]:
    """Have the roles of processes kept, where they matter; the map to share with a probe that asks."""
    if not members.by_role:
        return {}
    probe = ahead.tagger(FOLLOW)
    held.parts.append(probe)
    follow(members, probe, held)
    return {"tasks": probe.map("tasks").fd}
