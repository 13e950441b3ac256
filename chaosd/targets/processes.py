"""One look at every process of the host: who is whose child, and which are not processes at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.process import ProcessRef, read

_KTHREADD = 2  # rest_init(), init/main.c
_PF_KTHREAD = 0x00200000  # include/linux/sched.h


class Seen(msgspec.Struct, frozen=True):
    """What /proc/PID/stat says of one process (proc_pid_stat(5)); ``parent`` is a pid."""

    pid: int
    comm: str
    state: str
    parent: int
    flags: int
    start_time: int

    @property
    def kernel_thread(self) -> bool:
        """Whether it runs in the kernel only and can be neither stopped nor killed."""
        return bool(self.flags & _PF_KTHREAD)

    @property
    def dead(self) -> bool:
        """Whether it has ended and only waits to be collected by its parent."""
        return self.state in "ZX"

    @property
    def ref(self) -> ProcessRef:
        """Its identity."""
        return ProcessRef(self.pid, self.start_time)


def see(pid: int) -> Seen | None:
    """One process, or None when there is none with this pid (a thread id gives its thread)."""
    try:
        text = read(pid, "stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.rpartition(")")
    fields = rest.split(maxsplit=20)  # of 50
    return Seen(pid, name.partition("(")[2], fields[0], int(fields[1]), int(fields[6]), int(fields[19]))


_look: list[dict[int, Seen]] | None = None


@contextmanager
def one_look() -> Iterator[None]:
    """Within this block ``snapshot`` looks once, so that all who ask decide by the same."""
    global _look  # noqa: PLW0603 - the block is the whole of its life
    _look = []
    try:
        yield
    finally:
        _look = None


def snapshot() -> dict[int, Seen]:
    """Every process that is alive, by pid: no zombies, no kernel threads."""
    if _look is None:
        return _snapshot()
    if not _look:
        _look.append(_snapshot())
    return _look[0]


def _snapshot() -> dict[int, Seen]:
    threads = _kernel_threads()
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit() and name not in threads)
    found = ((pid, see(pid)) for pid in pids)
    return {pid: seen for pid, seen in found if seen and not seen.dead and not seen.kernel_thread}


def _kernel_threads() -> set[str]:
    # As many as can be told without their stat, which takes twice as long; a large host has hundreds. All are
    # children of kthreadd, and so are programs that the kernel starts (kernel/umh.c).
    try:
        return {pid for pid in read(_KTHREADD, f"task/{_KTHREADD}/children").split() if not _has_program(pid)}
    except OSError:  # a namespace of its own, or a kernel that does not list children
        return set()


def _has_program(pid: str) -> bool:
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return False
    except OSError:  # closed to us, so there may be one
        return True
    return True


def tree(root: int, table: dict[int, Seen]) -> list[Seen]:
    """A process and everything it begot, parents before children."""
    children: dict[int, list[int]] = {}
    for seen in table.values():
        children.setdefault(seen.parent, []).append(seen.pid)
    order = [root]
    for pid in order:
        order += sorted(children.get(pid, ()))
    return [table[pid] for pid in order if pid in table]


def ancestors(pid: int, table: dict[int, Seen]) -> list[Seen]:
    """The parents of a process, nearest first, up to pid 1."""
    chain: list[Seen] = []
    seen = table.get(pid)
    while seen is not None and (seen := table.get(seen.parent)) is not None:
        chain.append(seen)
    return chain


def roots(pids: Iterable[int], table: dict[int, Seen]) -> list[int]:
    """Those of some processes whose parent is not among them: one for each process tree."""
    chosen = set(pids)
    return [pid for pid in sorted(chosen) if pid in table and table[pid].parent not in chosen]


def netns_inode(pid: int) -> int:
    """The inode of a process's network namespace; 0 when it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def is_ours(netns: NetnsRef) -> bool:
    """Whether a network namespace is that of this process."""
    return netns.inode == netns_inode(os.getpid())
