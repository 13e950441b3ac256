"""What is left on a host with no journal to tell of it: ours, and what looks like other tools'.

Looking changes nothing. Ours is told by the mark on its name and by nothing else, and only when no
run is live; an empty clsact qdisc bears no mark and does nothing, so it is left where it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

from chaosd.kernel import cgroup_scrub, clock, load_child, netlink
from chaosd.kernel.edit import MARK
from chaosd.kernel.netns import NetnsRef

_CHAOTIC = re.compile(r"chaos|blade|pumba|litmus|gremlin|toxi", re.IGNORECASE)
_SHAPERS = ("netem",)


class Leftover:
    """Something that bears our mark: what it is, and how to remove it."""

    def __init__(self, says: str, remove: Callable[[], object]) -> None:
        self._says = says
        self.remove = remove

    def __str__(self) -> str:
        return self._says


def namespaces() -> list[NetnsRef]:
    """Every network namespace that a process or a name holds, each once."""
    folders = [folder for folder in ("/run/netns", "/run/docker/netns") if os.path.isdir(folder)]
    paths = [f"{folder}/{name}" for folder in folders for name in os.listdir(folder)]
    paths += [f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdigit()]
    found: dict[int, NetnsRef] = {NetnsRef.own().inode: NetnsRef.own()}
    for path in paths:
        try:
            ref = NetnsRef.at(path)
        except OSError:  # the process has ended meanwhile
            continue
        found.setdefault(ref.inode, ref)
    return list(found.values())


def ours() -> list[Leftover]:
    """Everything on this host that bears our mark."""
    groups = [
        Leftover(f"cgroup {path}", partial(cgroup_scrub.remove, path)) for path in cgroup_scrub.strays()
    ]
    loads = [
        Leftover(f"process {pid} of a load", partial(load_child.end_one, pid))
        for pid in load_child.processes()
    ]
    clocks = [Leftover(f"clock page {path}", partial(clock.end, path)) for path in clock.pages()]
    return [*_of_network(), *loads, *groups, *clocks]


def _of_network() -> Iterator[Leftover]:
    for ref in namespaces():
        try:
            with netlink.rtnl(ref) as ip:
                links = {link.index: link.name for link in ip.links()}
                hooks = [(i, f) for i in links for f in netlink.filters(ip, i) if f.ours]
        except OSError:
            continue
        where = f"in network namespace {ref.inode}"
        for index, found in hooks:
            yield Leftover(
                f"filter {found.name} on {links[index]} {where}", partial(_remove_filter, ref, index, found)
            )
        for index, name in links.items():
            if name.startswith(MARK):
                yield Leftover(f"device {name} {where}", partial(_remove_link, ref, index, name))


def _remove_filter(ref: NetnsRef, index: int, found: netlink.Filter) -> None:
    with netlink.rtnl(ref) as ip:
        ip.delete_filter(index, found.parent, found.prio, found.handle)


def _remove_link(ref: NetnsRef, index: int, name: str) -> None:
    with netlink.rtnl(ref) as ip:
        if netlink.index_of(ip, name) == index:
            ip.delete_link(index)


def strangers() -> list[str]:
    """What looks like a fault that some other tool or a hand has left, one line each."""
    return [*_shaped(), *_chains(), *cgroup_scrub.leftovers()]


def _shaped() -> Iterator[str]:
    for ref in namespaces():
        try:
            with netlink.rtnl(ref) as ip:
                links = {link.index: link.name for link in ip.links()}
                qdiscs = ip.qdiscs()
        except OSError:
            continue
        for found in qdiscs:
            name = links.get(found.index, "?")
            if found.kind in _SHAPERS and not name.startswith(MARK):
                yield f"{found.kind} qdisc {found.handle >> 16:x}: on {name} in network namespace {ref.inode}"


def _chains() -> Iterator[str]:
    for argv, pattern in (
        (["nft", "list", "chains"], re.compile(r"^\s*chain (\S+)")),
        (["iptables-save"], re.compile(r"^:(\S+)")),
        (["ip6tables-save"], re.compile(r"^:(\S+)")),
    ):
        if shutil.which(argv[0]) is None:
            continue
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
        for line in done.stdout.splitlines():
            match = pattern.match(line)
            if match and _CHAOTIC.search(match[1]):
                yield f"firewall chain {match[1]} (seen by {argv[0]})"
