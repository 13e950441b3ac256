"""Tags on the sockets of a target, by which a gate knows its packets in a namespace shared with others."""

from __future__ import annotations

import os
import socket
import struct
from ctypes import CDLL
from functools import cache

from chaosd.kernel import ahead, bpf, links, tasks
from chaosd.kernel.coming import Coming
from chaosd.kernel.edit import Control
from chaosd.kernel.leased import Loaded
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.tasks import Members

_PIDFD_GETFD = 438  # the same on every architecture; Linux 5.6
_TAG = struct.pack("=I", 1)
_CREATE = "chaosd_socket"


class Tagging(Loaded, frozen=True, tag="bpf.tagging"):
    """Every socket of a target is tagged: those it has, and those it will make or accept.

    Args:
        run, index: as in Planning.
        members: who the target is.
    """

    members: Members

    @property
    def slot(self) -> str:
        """Its own name; a tag takes nothing from anybody."""
        return f"bpf.tagging:{self.run}:{self.index}"

    def describe(self) -> str:
        """One line: whose sockets."""
        return f"tag the sockets of {self.members.describe()}"

    @property
    def control(self) -> Control:
        """None: tags strike nobody."""
        return ""

    @property
    def thins(self) -> bool:
        """No."""
        return False

    def prepare(self) -> None:
        """Begin to load the probe, which is attached to nothing yet."""
        if self.slot not in _coming:
            ready = not self.members.entire and ahead.tag() is not None
            _coming[self.slot] = Coming(self._load, ready=ready)

    def _load(self) -> bpf.Object:
        if self.members.entire:
            return bpf.Object("tag", struct.pack("=I", 0), programs=(_CREATE,))
        return ahead.tagger((_CREATE, *tasks.FOLLOW))

    def apply(self) -> None:
        """Hook socket creation, then tag the sockets that are there (``UnsupportedError`` if refused)."""
        self.prepare()
        try:
            self._attach(_coming[self.slot].get())
        finally:
            del _coming[self.slot]  # not before it can be found among what is live

    def _attach(self, probe: bpf.Object) -> None:
        entire = self.members.entire
        with bpf.undone_on_error(bpf.Held(probe)) as held:
            create = probe.program(_CREATE)
            held.parts.append(links.link_cgroup(create, self.members.attach.path, "sock_create"))
            if not entire:
                tasks.follow(self.members, probe, held)
            _tag_standing(self.members, probe.map("tagged", 4))
        bpf.live[self.slot] = held


_coming: dict[str, Coming[bpf.Object]] = {}


def tagger_of(slot: str) -> bpf.Object:
    """The probe of a ``Tagging`` by its slot (``KeyError`` if it is neither prepared nor applied here)."""
    if (coming := _coming.get(slot)) is not None:
        return coming.get()
    held = bpf.live[slot]
    assert isinstance(held, bpf.Held)
    probe = held.parts[0]
    assert isinstance(probe, bpf.Object)
    return probe


def is_here(slot: str) -> bool:
    """Whether ``tagger_of`` need not wait."""
    return slot not in _coming or _coming[slot].here()


def _tag_standing(members: Members, tags: bpf.Map) -> None:
    known: set[ProcessRef] = set()
    while fresh := members.now() - known:
        for ref in fresh:
            _tag_process(ref, tags)
        known |= fresh


def _tag_process(ref: ProcessRef, tags: bpf.Map) -> None:
    try:
        pidfd = ref.pidfd()
    except ProcessLookupError:
        return
    try:
        for fd in _sockets(ref.pid):
            _tag_socket(pidfd, fd, tags)
    finally:
        os.close(pidfd)


def _sockets(pid: int) -> list[int]:
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return []
    return [int(fd) for fd in fds if _is_socket(f"/proc/{pid}/fd/{fd}")]


def _is_socket(path: str) -> bool:
    try:
        return os.readlink(path).startswith("socket:")
    except FileNotFoundError:
        return False


@cache
def _libc() -> CDLL:
    return CDLL(None, use_errno=True)


def _tag_socket(pidfd: int, fd: int, tags: bpf.Map) -> None:
    copy = _libc().syscall(_PIDFD_GETFD, pidfd, fd, 0)
    if copy < 0:
        return  # closed meanwhile
    with socket.socket(fileno=copy) as end:
        if end.family in (socket.AF_INET, socket.AF_INET6):
            tags.update(struct.pack("=i", end.fileno()), _TAG)
