"""Reading interfaces, qdiscs and filters through rtnetlink, in any namespace."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any, cast

import msgspec

from chaosd.errors import ForeignStateError, UnsupportedError
from chaosd.kernel.edit import MARK, Undo
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside

Rtnl = Any
"""A pyroute2.IPRoute, whose calls have no types."""

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""The two filter parents of clsact (linux/pkt_sched.h: TC_H_CLSACT and TC_H_MIN_INGRESS, _EGRESS)."""

ALL_PROTOCOLS = 3
"""ETH_P_ALL in host order, as pyroute2 wants it; swapped, a filter attaches and meets nothing."""

HANDLE = 0xC4
"""The first byte of the handles of our filters; the one after it is ours, too."""

_LOOPBACK, _ETHER = 772, 1  # linux/if_arp.h: ARPHRD_*
_GONE = (errno.ENODEV, errno.ENOENT, errno.EINVAL)


@cache
def _rtnetlink() -> tuple[Any, Any]:
    # Imported late, and without the package's own module: that imports every protocol there is, which
    # takes half as long again. It is not left behind, lest others import from it what it lacks.
    bare = module_from_spec(cast("ModuleSpec", find_spec("pyroute2")))
    whole = sys.modules.setdefault("pyroute2", bare)
    try:
        socket, errors = map(import_module, ("pyroute2.iproute.linux", "pyroute2.netlink.exceptions"))
    finally:
        if whole is bare:
            del sys.modules["pyroute2"]
    return socket.IPRoute, errors.NetlinkError


_kept: dict[NetnsRef, Rtnl] | None = None


@contextmanager
def kept_open() -> Iterator[None]:
    """Use one socket for each namespace within this block, in the main thread: opening one takes 2 ms."""
    global _kept  # noqa: PLW0603 - the block is the whole of its life
    _kept = {}
    try:
        yield
    finally:
        sockets, _kept = _kept, None
        for ip in sockets.values():
            ip.close()


@contextmanager
def rtnl(ref: NetnsRef) -> Iterator[Rtnl]:
    """Netlink inside a namespace.

    Raises:
        FileNotFoundError: the namespace is gone.
        OSError: the kernel said no.
    """
    iproute, failure = _rtnetlink()
    try:
        with inside(ref):
            if _kept is None:
                with iproute() as ip:
                    yield ip
            else:
                _kept[ref] = _kept.get(ref) or iproute()
                yield _kept[ref]
    except failure as error:
        raise OSError(error.code, str(error.args[-1])) from None


@contextmanager
def asking(what: str, mend: str = "") -> Iterator[None]:
    """Tell a refusal of the kernel to the user."""
    try:
        yield
    except FileNotFoundError as error:
        said = f"the kernel says {error.strerror}" if error.strerror else str(error)
        raise UnsupportedError(f"{what}: {said}", hint=mend) from None
    except OSError as error:
        raise UnsupportedError(f"{what}: the kernel says {error.strerror}", hint=mend) from None


def gone_or_raise(error: OSError) -> Undo:
    """``Undo.GONE`` for an error that says that the thing is not there any more."""
    if error.errno in _GONE or isinstance(error, FileNotFoundError):
        return Undo.GONE
    raise error


class Interface(msgspec.Struct, frozen=True):
    """An interface that is up, as far as planning needs to know it."""

    ref: DeviceRef
    mtu: int
    loopback: bool
    ethernet: bool  # its packets have Ethernet headers, those of lo included
    enslaved: bool  # to a bridge or bond, whose own interface sees the host's traffic
    queueless: bool  # the length of its transmit queue is 0


def interfaces(ref: NetnsRef) -> list[Interface]:
    """Every interface of a namespace that is up and is not ours."""
    with rtnl(ref) as ip:
        found = [link for link in ip.get_links() if link["flags"] & 1]
    return [
        Interface(
            DeviceRef(ref, link["index"], link.get("IFLA_IFNAME")),
            mtu=link.get("IFLA_MTU"),
            loopback=link["ifi_type"] == _LOOPBACK,
            ethernet=link["ifi_type"] in (_ETHER, _LOOPBACK),
            enslaved=bool(link.get("IFLA_MASTER")),
            queueless=link.get("IFLA_TXQLEN") == 0,
        )
        for link in found
        if not link.get("IFLA_IFNAME").startswith(MARK)
    ]


def index_of(ip: Rtnl, name: str) -> int:
    """The index of an interface by name, 0 if there is none."""
    return int(next(iter(ip.link_lookup(ifname=name)), 0))


def queue_length(ip: Rtnl, index: int) -> int:
    """How many packets the transmit queue of an interface takes, by its index."""
    return next((int(link.get("IFLA_TXQLEN") or 0) for link in ip.get_links(index)), 0)


def kind_of(ip: Rtnl, name: str) -> str | None:
    """The kind of an interface such as ``ifb``; ``other`` without a kind, None without interface."""
    index = index_of(ip, name)
    for link in ip.get_links(index) if index else ():
        info = link.get("IFLA_LINKINFO")
        return str(info.get("IFLA_INFO_KIND")) if info else "other"
    return None


class Filter(msgspec.Struct, frozen=True):
    """A filter on clsact."""

    parent: int
    prio: int
    handle: int
    kind: str
    name: str

    @property
    def ours(self) -> bool:
        """Whether it has the name and a handle that chaosd gives."""
        return self.kind == "bpf" and self.name.startswith(MARK) and self.handle >> 24 in (HANDLE, HANDLE + 1)


def filters(ip: Rtnl, index: int) -> Iterator[Filter]:
    """The filters of an interface on both sides of clsact."""
    for parent in (INGRESS, EGRESS):
        for found in ip.get_filters(index=index, parent=parent):
            kind = found.get("TCA_KIND")
            if found["handle"]:
                name = found.get("TCA_OPTIONS").get("TCA_BPF_NAME") if kind == "bpf" else ""
                yield Filter(parent, found["info"] >> 16, found["handle"], kind, name or "")


def hook_qdisc(ip: Rtnl, index: int) -> str:
    """Which qdisc has an interface's clsact slot: ``clsact``, ``ingress`` or none."""
    kinds = (qdisc.get("TCA_KIND") for qdisc in ip.get_qdiscs(index))
    return next((kind for kind in kinds if kind in ("clsact", "ingress")), "")


def standing_hook(device: DeviceRef) -> bool:
    """Whether an interface has clsact already.

    Raises:
        ForeignStateError: it has the older ingress qdisc, which has no side for what leaves.
    """
    with rtnl(device.netns) as ip:
        kind = hook_qdisc(ip, device.ifindex)
    if kind == "ingress":
        raise ForeignStateError(
            f"{device.name} has an ingress qdisc", hint="clsact takes its place and does more"
        )
    return kind == "clsact"


_LINK_FIELDS = ("IFLA_MTU", "IFLA_QDISC", "IFLA_TXQLEN", "IFLA_MASTER", "IFLA_LINK", "IFLA_ADDRESS")


def surroundings(ref: NetnsRef) -> dict[str, str]:
    """Links, qdiscs, classes and filters of a namespace by name, without counters."""
    said: dict[str, str] = {}
    try:
        with rtnl(ref) as ip:
            for link in list(ip.get_links()):
                name, index = link.get("IFLA_IFNAME"), link["index"]
                said[f"link {name}"] = _text(index, link["flags"], *(link.get(f) for f in _LINK_FIELDS))
                said |= {f"qdisc {name} {_at(q)}": _body(q) for q in ip.get_qdiscs(index)}
                said |= {f"class {name} {_at(c)}": _body(c) for c in ip.get_classes(index)}
                for parent in (0, INGRESS, EGRESS):
                    found = list(ip.get_filters(index=index, parent=parent))
                    said |= {f"filter {name} {_at(f)} {f['info'] >> 16}": _body(f) for f in found}
    except FileNotFoundError:
        return {}
    return {f"netns {ref.inode} {name}": value for name, value in said.items()}


def _text(*facts: Any) -> str:
    return json.dumps(facts, default=str)


def _at(message: Any) -> str:
    return f"{message['parent']:x} {message['handle']:x}"


_VOLATILE = ("STATS", "STATS2", "XSTATS", "_TM", "header", "refcnt", "bindcnt", "direct_pkts")


def _body(message: Any) -> str:
    return _text(message.get("TCA_KIND"), _steady(message.get("TCA_OPTIONS")))


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        plain = {key: v for key, v in value.items() if key not in ("attrs", *_VOLATILE)}
        plain |= {slot[0]: slot[1] for slot in value.get("attrs", ()) if not slot[0].endswith(_VOLATILE)}
        return {key: _steady(v) for key, v in sorted(plain.items())}
    return [_steady(v) for v in value] if isinstance(value, (list, tuple)) else value
