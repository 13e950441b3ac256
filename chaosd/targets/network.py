"""``netns:`` and ``dev:`` as targets: network namespaces and interfaces."""

from __future__ import annotations

import fcntl
import os
import socket

from chaosd.errors import ChaosdError
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside
from chaosd.targets.build import leader, suggest
from chaosd.targets.model import Life, Target
from chaosd.targets.processes import is_ours, netns_inode, snapshot

_NAMED = "/run/netns"  # ip-netns(8)
_NS_GET_NSTYPE, _CLONE_NEWNET = 0xB703, 0x40000000  # ioctl_nsfs(2)


def resolve(word: str) -> Target:
    """The target of ``netns:WORD``: all traffic in the namespace, and every process in it.

    Raises:
        ChaosdError: there is no such namespace.
    """
    ref = namespace(word)
    inside_it = [seen for seen in snapshot().values() if netns_inode(seen.pid) == ref.inode]
    return Target(
        "",
        processes=tuple(seen.ref for seen in inside_it),
        netns=ref,
        own_netns=True,
        life=Life.NONE,
    )


def namespace(word: str) -> NetnsRef:
    """The network namespace of a name (ip-netns(8)), a path or a pid.

    Raises:
        ChaosdError: there is none.
    """
    named = f"{_NAMED}/{word}"
    if "/" not in word and os.path.isfile(named):
        return _at(named)
    if "/" in word:
        return _at(word)
    if word.isascii() and word.isdigit():
        return NetnsRef.at(f"/proc/{leader(word, snapshot()).pid}/ns/net")
    known = os.listdir(_NAMED) if os.path.isdir(_NAMED) else []
    raise ChaosdError(
        f"there is no network namespace {word!r}", hint=suggest(word, known, "netns:", "see: ip netns list")
    )


def _at(path: str) -> NetnsRef:
    if not os.path.exists(path):
        raise ChaosdError(f"there is no network namespace {path!r}", hint="such as /proc/1234/ns/net")
    # opening anything else than a namespace file could block, or set a device going
    same_kind = os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    if not same_kind or _kind(path) != _CLONE_NEWNET:
        raise ChaosdError(f"{path!r} is not a network namespace", hint="such as /proc/1234/ns/net")
    return NetnsRef.at(path)


def _kind(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE)
    finally:
        os.close(fd)


def device(name: str, netns: NetnsRef) -> Target:
    """The target that is one interface of a namespace.

    Raises:
        ChaosdError: there is no such interface in it.
    """
    with inside(netns):
        known = {other: index for index, other in socket.if_nameindex()}
    if name not in known:
        where = "" if is_ours(netns) else f" in {netns.path}"
        raise ChaosdError(
            f"there is no interface {name!r}{where}", hint=suggest(name, known, "dev:", "see: ip link")
        )
    return Target(
        "",
        netns=netns,
        device=DeviceRef(netns, known[name], name),
        life=Life.NONE,
    )
