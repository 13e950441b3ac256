"""What every kind of target that has processes is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from chaosd.errors import ChaosdError
from chaosd.kernel import cgroup
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.netns import NetnsRef
from chaosd.targets.model import Life, Target
from chaosd.targets.processes import Seen, is_ours, netns_inode, see

_PID_LIMIT = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
_FEW = 8
_CONTAINER = re.compile(r"(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?\Z")
_UNIT = re.compile(r"[^/]+\.(?:service|scope|slice|socket|mount|swap)\Z")


def suggest(word: str, known: Iterable[str], kind: str = "", otherwise: str = "") -> str:
    """A hint for a word that names nothing: the known names like it, else all where they are few.

    Args:
        word: what the user wrote.
        known: the names there are.
        kind: what to write before a name, such as ``comm:``.
        otherwise: the hint when nothing is known.
    """
    names = sorted({name for name in known if name.isprintable()})
    near = get_close_matches(word, names, n=3, cutoff=0.7)
    if near:
        return f"did you mean {' or '.join(f'{kind}{name}' for name in near)}?"
    return f"there are {', '.join(names)}" if 0 < len(names) <= _FEW else otherwise


def leader(word: str, table: Mapping[int, Seen]) -> Seen:
    """The process that a pid stands for.

    Raises:
        ChaosdError: not a pid, or the pid of a thread, a zombie, a kernel thread or of nothing.
    """
    if not (word.isascii() and word.isdigit() and len(word) < 12 and 0 < int(word) <= _PID_LIMIT):
        raise ChaosdError(f"{word!r} is not a pid", hint="such as pid:1234; a name goes after comm:")
    pid = int(word)
    if pid in table:
        return table[pid]
    seen = see(pid)
    if seen is None:
        raise ChaosdError(f"there is no process {pid}", hint="see: ps -e")
    if seen.dead:
        raise ChaosdError(f"pid {pid} ({seen.comm}) is a zombie: it has ended", hint="see: ps -e")
    if seen.kernel_thread:
        raise ChaosdError(f"pid {pid} ({seen.comm}) is a kernel thread", hint="name a process of user space")
    process = _thread_group(pid)
    if process in (0, pid):
        raise ChaosdError(f"there is no process {pid}", hint="see: ps -e")
    raise ChaosdError(f"{pid} is a thread of process {process}", hint=f"pid:{process}")


def _thread_group(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Tgid:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def gather(
    processes: Sequence[Seen],
    table: Mapping[int, Seen],
    life: Life,
    cgroups: Mapping[str, CgroupRef] | None = None,
    manager: str = "",
) -> Target:
    """A target of these processes, with the namespace and the cgroups that are theirs.

    Args:
        processes: the leader first.
        table: every process alive; who else is in the namespace or cgroup is read from it.
        life: which of the processes the target lives by.
        cgroups: the cgroups where they are known; None to look for such as hold the processes,
            all of them and nobody else.
        manager: who else writes the cgroups' values; found from their paths where not given.
    """
    pids = [seen.pid for seen in processes]
    own = _wholly_own(pids, table) if cgroups is None else dict(cgroups)
    netns = _common_netns(pids)
    return Target(
        "",
        processes=tuple(seen.ref for seen in processes),
        cgroups=own,
        netns=netns,
        own_netns=netns is not None and _owns(netns, pids, table),
        manager=manager or manager_of(own),
        life=life,
    )


def _wholly_own(pids: Sequence[int], table: Mapping[int, Seen]) -> dict[str, CgroupRef]:
    mounts = cgroup.hierarchies()
    own: dict[str, CgroupRef] = {}
    for key, path in cgroup.of_process(pids[0]).items():
        if path != mounts[key] and set(pids) == {pid for pid in cgroup.members(path) if pid in table}:
            own[key] = CgroupRef.at(path)
    return own


def _common_netns(pids: Iterable[int]) -> NetnsRef | None:
    places = {inode: pid for pid in reversed([*pids]) if (inode := netns_inode(pid))}
    if len(places) != 1:
        return None
    inode, pid = places.popitem()
    return NetnsRef.own() if inode == netns_inode(os.getpid()) else NetnsRef.at(f"/proc/{pid}/ns/net")


def _owns(netns: NetnsRef, pids: Iterable[int], table: Mapping[int, Seen]) -> bool:
    ours = set(pids)
    strangers = (pid for pid in table if pid not in ours and netns_inode(pid) == netns.inode)
    return not is_ours(netns) and next(strangers, 0) == 0


def manager_of(cgroups: Mapping[str, CgroupRef]) -> str:
    """Who made these cgroups and writes their values too: ``container:ID``, ``unit:NAME`` or nobody.

    Container engines name a cgroup by the container's 64-digit id, with or without systemd's
    ``.scope``; every other name that ends like a unit's is systemd's.
    """
    names = [ref.path.rpartition("/")[2] for ref in cgroups.values()]
    found = [f"container:{match[1]}" for name in names if (match := _CONTAINER.match(name))]
    found += [f"unit:{name}" for name in names if _UNIT.match(name)]
    return found[0] if found else ""
