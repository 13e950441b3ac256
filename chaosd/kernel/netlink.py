"""Reading interfaces, qdiscs and filters through rtnetlink, in any namespace."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any, cast

import msgspec

from chaosd.errors import UnsupportedError
from chaosd.kernel.edit import MARK, Undo
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside
from chaosd.kernel.rtnetlink import Item, Link, Rtnl, attributes, word

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""The two filter parents of clsact (linux/pkt_sched.h: TC_H_CLSACT and TC_H_MIN_INGRESS, _EGRESS)."""

HANDLE = 0xC4
"""The first byte of the handles of our filters; the one after it is ours, too."""

_HOOKS = ("clsact", "ingress")
# These have no classes, and no filters but at the two parents above (net/sched/sch_{generic,ingress}.c).
_BARE = ("noqueue", *_HOOKS)
_LOOPBACK, _ETHER = 772, 1  # linux/if_arp.h: ARPHRD_*
_BPF_NAME = 7  # linux/pkt_cls.h: TCA_BPF_NAME
# linux/if.h: IFF_RUNNING, IFF_LOWER_UP and IFF_DORMANT. The carrier, which comes and goes by itself, and the
# kernel tells of it later than it is there (net/core/link_watch.c).
_CARRIER = 0x40 | 0x10000 | 0x20000
_GONE = (errno.ENODEV, errno.ENOENT, errno.EINVAL)


@contextmanager
def rtnl(ref: NetnsRef) -> Iterator[Rtnl]:
    """Netlink inside a namespace.

    Raises:
        FileNotFoundError: the namespace is gone.
        OSError: the kernel said no.
    """
    with inside(ref), closing(Rtnl()) as ip:
        yield ip


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
    hook: str  # which qdisc has its clsact slot: clsact, the older ingress, or none; filters hang on these


def interfaces(ref: NetnsRef) -> list[Interface]:
    """Every interface of a namespace that is up and is not ours."""
    with rtnl(ref) as ip:
        found = [link for link in ip.links() if link.up and not link.name.startswith(MARK)]
        hooks = {qdisc.index: qdisc.kind for qdisc in ip.qdiscs() if qdisc.kind in _HOOKS}
    return [
        Interface(
            DeviceRef(ref, link.index, link.name),
            mtu=link.mtu,
            loopback=link.hardware == _LOOPBACK,
            ethernet=link.hardware in (_ETHER, _LOOPBACK),
            enslaved=bool(link.master),
            queueless=link.queue == 0,
            hook=hooks.get(link.index, ""),
        )
        for link in found
    ]


def index_of(ip: Rtnl, name: str) -> int:
    """The index of an interface by name, 0 if there is none."""
    link = ip.find(name)
    return link.index if link else 0


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


def filters(ip: Rtnl, index: int, parents: Iterable[int] = (INGRESS, EGRESS)) -> Iterator[Filter]:
    """The filters of an interface on both sides of clsact, or on one."""
    for parent in parents:
        for found in ip.filters(index, parent):
            if found.handle:
                options = attributes(found.options) if found.kind == "bpf" else {}
                name = word(options.get(_BPF_NAME, b""))
                yield Filter(parent, found.info >> 16, found.handle, found.kind, name)


def hook_qdisc(ip: Rtnl, index: int) -> str:
    """Which qdisc has an interface's clsact slot: ``clsact``, ``ingress`` or none."""
    kinds = (qdisc.kind for qdisc in ip.qdiscs() if qdisc.index == index)
    return next((kind for kind in kinds if kind in _HOOKS), "")


def surroundings(ref: NetnsRef) -> dict[str, str]:
    """Links, qdiscs, classes and filters of a namespace by name, without counters and the carrier."""
    said: dict[str, str] = {}
    try:
        with rtnl(ref) as ip:
            links = {link.index: link for link in ip.links()}
            qdiscs = [qdisc for qdisc in ip.qdiscs() if qdisc.index in links]
            hooked = {qdisc.index for qdisc in qdiscs if qdisc.kind in _HOOKS}
            rooted = {qdisc.index for qdisc in qdiscs if qdisc.kind not in _BARE}
            classes = [found for index in rooted for found in ip.classes(index)]
            places = [(i, 0) for i in rooted] + [(i, side) for i in hooked for side in (INGRESS, EGRESS)]
            hung = [found for place in places for found in ip.filters(*place)]
    except FileNotFoundError:
        return {}
    for link in links.values():
        kept = link.flags & ~_CARRIER
        facts = (kept, link.mtu, link.qdisc, link.queue, link.master, link.lower, link.address)
        said[f"link {link.name}"] = _text(link.index, *facts)
    for what, items in (("qdisc", qdiscs), ("class", classes)):
        said |= {f"{what} {_at(links, item)}": _body(item) for item in items}
    said |= {f"filter {_at(links, item)} {item.info >> 16}": _steadily(item) for item in hung}
    return {f"netns {ref.inode} {name}": value for name, value in said.items()}


_encode = json.JSONEncoder(default=str).encode


def _text(*facts: Any) -> str:
    return _encode(facts)


def _at(links: dict[int, Link], item: Item) -> str:
    return f"{links[item.index].name} {item.parent:x} {item.handle:x}"


def _body(item: Item) -> str:
    return _steadily(item) if item.kind in _COUNTING else _text(item.kind, item.options.hex())


_COUNTING = ("htb",)  # kinds of qdiscs that have a counter among their options
_VOLATILE = ("STATS", "STATS2", "XSTATS", "_TM", "header", "refcnt", "bindcnt", "direct_pkts", "PCNT")


def _steadily(item: Item) -> str:
    # the actions of a filter have counters and times in them; where, pyroute2 knows
    message = _tcmsg()(item.message)
    message.decode()
    return _text(item.kind, _steady(message.get("TCA_OPTIONS")))


@cache
def _tcmsg() -> Any:
    # Imported late, and without the package's own module: that imports every protocol there is, which
    # takes half as long again. It is not left behind, lest others import from it what it lacks.
    bare = module_from_spec(cast("ModuleSpec", find_spec("pyroute2")))
    whole = sys.modules.setdefault("pyroute2", bare)
    try:
        return import_module("pyroute2.netlink.rtnl.tcmsg").tcmsg
    finally:
        if whole is bare:
            del sys.modules["pyroute2"]


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        plain = {key: v for key, v in value.items() if key not in ("attrs", *_VOLATILE)}
        plain |= {slot[0]: slot[1] for slot in value.get("attrs", ()) if not slot[0].endswith(_VOLATILE)}
        return {key: _steady(v) for key, v in sorted(plain.items())}
    return [_steady(v) for v in value] if isinstance(value, (list, tuple)) else value
