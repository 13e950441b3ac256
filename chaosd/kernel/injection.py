"""System calls made to fail by eBPF: probes/override.bpf.c, probes/security.bpf.c and probes/cgroup.bpf.c."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from functools import partial

from chaosd.kernel import bpf, hooks, links, match, patterns, tasks
from chaosd.kernel.edit import Hit
from chaosd.kernel.hooks import ASYNCHRONOUS, ENTRY, Hook
from chaosd.kernel.leased import Counted, Loaded
from chaosd.kernel.process import comm_of
from chaosd.kernel.syscalls import Calls
from chaosd.kernel.tasks import Members

_SLOTS = 8  # in probes/override.bpf.c
_SHARED = (
    "progress",
    "counts",
    "hits",
    "processes",
    "calls",
    "ports",
    "cidrs",
    "exclude",
    "within",
    "pattern",
)
_HIT = struct.Struct("=QIIII16s16s128s")


class Injection(Loaded, frozen=True, tag="bpf.injection"):
    """System calls of a target fail with an errno; the programs are gone with this process.

    Args:
        run, index: as in Planning.
        members: who the target is.
        calls: which calls, on what.
        hooks: the functions of the kernel where these calls are met.
        rule: how many of them.
        error: the errno.
    """

    members: Members
    calls: Calls
    hooks: tuple[Hook, ...]
    rule: match.Rule
    error: int

    @property
    def slot(self) -> str:
        """Its own name; programs stand side by side."""
        return f"bpf.injection:{self.run}:{self.index}"

    def describe(self) -> str:
        """One line: whose calls fail, how, and where they are met."""
        name, where = errno.errorcode[self.error], ", ".join(map(str, self.hooks))
        return f"fail {self.calls} of {self.members.describe()} with {name}, at {where}"

    def apply(self) -> None:
        """Load, fill the maps, and only then attach (``UnsupportedError`` as the kernel says)."""
        held = Counted("calls", partial(_hit, error=self.error))
        with bpf.undone_on_error(held):
            share = tasks.attach_following(self.members, held)
            for name, programs, aims, lsm in self._objects():
                room = self.calls.sockets.room
                probe = bpf.Object(
                    name, self._config(), share=share, room=room, programs=programs, aims=aims, lsm=lsm
                )
                held.parts.append(probe)
                if "counts" not in share:
                    held.watch(probe)
                    self._fill(probe)
                    share |= {shared: probe.map(shared).fd for shared in _SHARED if probe.has(shared)}
                held.parts += self._attached(probe, name, aims)
        bpf.live[self.slot] = held

    def _objects(self) -> Iterator[tuple[str, list[str], dict[str, str], bool]]:
        """What to load: the object, its programs, their functions where they have any, and if for LSM."""
        if self._at("kprobe"):
            yield "override", ["chaosd_override"], {}, False
        entries = [hook.function for hook in self._at("error-injection")]
        for first in range(0, len(entries), _SLOTS):
            slots = {
                f"chaosd_slot{i}": function for i, function in enumerate(entries[first : first + _SLOTS])
            }
            yield "override", [*slots], slots, False
        for way in ("security", "lsm"):
            if aims := {hook.program: hook.function for hook in self._at(way)}:
                yield "security", [*aims], aims, way == "lsm"
        if programs := [hook.program for hook in self._at("cgroup")]:  # the last: it has not all of the maps
            yield "cgroup", programs, {}, False

    def _at(self, way: str) -> list[Hook]:
        return [hook for hook in self.hooks if hook.way == way]

    def _config(self) -> bytes:
        sockets = self.calls.sockets
        flags = (-self.error, not self.members.entire, sockets != match.Filters(), bool(self.calls.path))
        return self.rule.pack() + sockets.pack() + struct.pack("=iIII", *flags)

    def _attached(self, probe: bpf.Object, name: str, aims: dict[str, str]) -> Iterator[bpf.Closable]:
        if name == "cgroup":
            for hook in self._at("cgroup"):
                path = self.members.attach.path
                yield links.link_cgroup(probe.program(hook.program), path, hook.function)
        elif aims:
            for program, function in aims.items():
                yield links.link_trace(probe.program(program), function)
        else:
            for hook in self._at("kprobe"):
                yield links.Kprobe(probe.handle("chaosd_override"), hook.function)

    def _fill(self, probe: bpf.Object) -> None:
        self.calls.sockets.fill(probe)
        if not probe.has("calls"):
            return
        probe.map("pattern").update(struct.pack("=I", 0), patterns.pack(self.calls.path))
        folder = os.open(self.members.attach.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            probe.map("within", 4).update(struct.pack("=I", 0), struct.pack("=I", folder))
        finally:
            os.close(folder)
        wanted = probe.map("calls", 16)
        for call in self.calls.names:
            bits = self._bits(call)
            met = struct.pack("=Q4B4x", sum(1 << bit for bit in bits), *hooks.subject(call))
            for key in (*hooks.keys(call), *((bit, ASYNCHRONOUS) for bit in bits if bit != ENTRY)):
                wanted.update(struct.pack("=II", *key), met)

    def _bits(self, call: str) -> list[int]:
        ours = {hook.function for hook in self.hooks}
        entry = [ENTRY] if ours & set(hooks.entries(call)) else []
        return entry or [bit for bit, function in hooks.places(call).items() if function in ours]


def _hit(raw: bytes, error: int) -> Hit:
    at, pid, number, compat, port, address, comm, detail = _HIT.unpack(raw)
    where = _text(detail) or (_endpoint(address, port) if any(address) else "")
    name = hooks.name_of(number, compat)
    return Hit(at / 1e9, pid, _text(comm) or comm_of(pid), name, errno.errorcode[error], where)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


def _endpoint(address: bytes, port: int) -> str:
    if address[:12] == b"\0" * 10 + b"\xff\xff":
        return f"{socket.inet_ntop(socket.AF_INET, address[12:])}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"
