"""Route netlink over a socket of our own: links, and what traffic control has on them.

One request, one answer; opening a socket takes 40 us, so that each use opens its own. Messages are packed
and read here, for pyroute2's own sockets run an event loop and take a millisecond a request, and importing it
takes longer than planning a fault; tests compare what is sent, byte for byte, with what pyroute2 would send.
Layouts: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/pkt_cls.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

import msgspec

_LINK, _QDISC, _CLASS, _FILTER = 16, 36, 40, 44  # RTM_NEW...; one more is DEL, two more GET
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _TORN, _REPLACE, _DUMP, _MAKE = 0x1, 0x4, 0x10, 0x100, 0x300, 0x600
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_TCMSG = struct.Struct("=BxxxiIII")  # struct tcmsg: family, index, handle, parent, info
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_LARGEST = 1 << 17  # of what is read at once; the kernel puts 32 KiB of a dump into one
_REPEATS = 10  # of a dump that something changed under
_UP = 1
_NO_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS
_CLSACT, _CLSACT_AT = 0xFFFF_0000, 0xFFFF_FFF1
_ALL_PROTOCOLS = socket.htons(3)  # ETH_P_ALL; in the wrong order, a filter attaches and meets nothing
_ROOT = 0xFFFF_FFFF


class Link(msgspec.Struct, frozen=True):
    """An interface.

    ``hardware`` is its ARPHRD_* (linux/if_arp.h), ``queue`` the length of its transmit queue in packets.
    ``master`` and ``lower`` are the indices of what it is in and on, 0 for none; ``kind`` is ``other`` for
    one that was not made by kind.
    """

    index: int
    hardware: int
    flags: int
    name: str
    mtu: int
    queue: int
    master: int
    lower: int
    qdisc: str
    address: str
    kind: str

    @property
    def up(self) -> bool:
        """Whether it is set up."""
        return bool(self.flags & _UP)


class Item(msgspec.Struct, frozen=True):
    """A qdisc, a class or a filter: where it is, its kind, and its options as the kernel packs them.

    ``message`` is all that the kernel said of it.
    """

    index: int
    handle: int
    parent: int
    info: int
    kind: str
    options: bytes
    message: bytes


class Rtnl:
    """A socket for requests in the network namespace of the thread that makes it.

    Every method raises ``OSError`` with the kernel's errno.
    """

    def __init__(self) -> None:
        self._end = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._asked = 0

    def close(self) -> None:
        """Close it."""
        self._end.close()

    def links(self) -> list[Link]:
        """Every interface."""
        body = _IFINFO.pack(0, 0, 0, 0, 0) + _attribute(29, _NUMBER.pack(_NO_STATISTICS))  # IFLA_EXT_MASK
        return [_link(message) for message in self._dump(_LINK, body)]

    def find(self, name: str) -> Link | None:
        """The interface of a name."""
        return self._one(_IFINFO.pack(0, 0, 0, 0, 0) + _attribute(3, _text(name)))

    def link(self, index: int) -> Link | None:
        """The interface of an index."""
        return self._one(_IFINFO.pack(0, 0, index, 0, 0))

    def _one(self, body: bytes) -> Link | None:
        try:
            return _link(self._ask(_LINK + 2, _ACK, body)[0])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None

    def add_link(self, name: str, kind: str) -> None:
        """Make an interface of a kind such as ``ifb``."""
        info = _attribute(3, _text(name)) + _attribute(18, _attribute(1, _text(kind)))
        self._ask(_LINK, _ACK | _MAKE, _IFINFO.pack(0, 0, 0, 0, 0) + info)

    def set_up(self, index: int) -> None:
        """Set an interface up."""
        self._ask(_LINK, _ACK, _IFINFO.pack(0, 0, index, _UP, _UP))

    def set_queue(self, index: int, packets: int) -> None:
        """Set how many packets the transmit queue of an interface takes."""
        self._ask(_LINK, _ACK, _IFINFO.pack(0, 0, index, 0, 0) + _attribute(13, _NUMBER.pack(packets)))

    def delete_link(self, index: int) -> None:
        """Delete an interface."""
        self._ask(_LINK + 1, _ACK, _IFINFO.pack(0, 0, index, 0, 0))

    def qdiscs(self) -> list[Item]:
        """The qdiscs of all interfaces; the kernel has no way to ask for those of one."""
        return self._items(_QDISC, 0, 0)

    def classes(self, index: int) -> list[Item]:
        """The classes of an interface."""
        return self._items(_CLASS, index, 0)

    def filters(self, index: int, parent: int) -> list[Item]:
        """The filters of an interface at a parent; 0 is its root qdisc."""
        return self._items(_FILTER, index, parent)

    def _items(self, what: int, index: int, parent: int) -> list[Item]:
        return [_item(message) for message in self._dump(what, _TCMSG.pack(0, index, 0, parent, 0))]

    def add_clsact(self, index: int) -> None:
        """Add a clsact qdisc."""
        self._ask(_QDISC, _ACK | _MAKE, _clsact(index))

    def delete_clsact(self, index: int) -> None:
        """Delete it, and the filters on it."""
        self._ask(_QDISC + 1, _ACK, _clsact(index))

    def set_root(self, index: int, handle: int, kind: str, options: bytes, *, change: bool = False) -> None:
        """Make a qdisc the root of an interface, or change the one that is there."""
        body = _TCMSG.pack(0, index, handle, _ROOT, 0) + _attribute(1, _text(kind)) + _attribute(2, options)
        self._ask(_QDISC, _ACK | (_REPLACE if change else _MAKE), body)

    def delete_root(self, index: int, handle: int) -> None:
        """Delete the root qdisc of an interface, if it has this handle."""
        self._ask(_QDISC + 1, _ACK, _TCMSG.pack(0, index, handle, _ROOT, 0))

    def add_filter(
        self, index: int, parent: int, prio: int, handle: int, *, program: int, name: str, redirect: int = 0
    ) -> None:
        """Have an eBPF program look at each packet.

        Args:
            index: of the interface.
            parent: a side of clsact.
            prio: among the filters there, from 1.
            handle: of the filter.
            program: its descriptor.
            name: shown beside it.
            redirect: the index of the interface to which mirred sends what the program chooses; 0 where
                what the program returns is itself what happens (TCA_BPF_FLAG_ACT_DIRECT).
        """
        options = _attribute(6, _NUMBER.pack(program)) + _attribute(7, _text(name))
        options += _attribute(8, _NUMBER.pack(not redirect))
        options = (_redirection(redirect) if redirect else b"") + options
        self._ask(_FILTER, _ACK | _MAKE, _filter(index, parent, prio, handle) + _attribute(2, options))

    def delete_filter(self, index: int, parent: int, prio: int, handle: int) -> None:
        """Delete an eBPF filter."""
        self._ask(_FILTER + 1, _ACK, _filter(index, parent, prio, handle))

    def _dump(self, what: int, body: bytes) -> list[bytes]:
        return self._ask(what + 2, _DUMP, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        answers: list[bytes] = []
        for _ in range(_REPEATS):
            self._asked += 1
            self._end.send(
                _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._asked, 0) + body
            )
            torn, answers = 0, []
            for kind_, flags_, message in self._answer():
                torn |= flags_ & _TORN
                answers += [message] if kind_ not in (_ERROR, _DONE) else []
            if not torn:
                break
        return answers

    def _answer(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            data, _, flags, _ = self._end.recvmsg(_LARGEST)
            if flags & socket.MSG_TRUNC:
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
            for kind, how, number, message in _split(data):
                if number != self._asked:
                    continue  # of what was given up
                if kind in (_ERROR, _DONE):
                    code = -struct.unpack_from("=i", message, _HEADER.size)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                yield kind, how, message
                if kind in (_ERROR, _DONE):
                    return


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        yield kind, flags, number, data[at : at + length]
        at += length + 3 & ~3


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The netlink attributes (struct nlattr) from an offset on, by type; of one type, the last."""
    found, head, unpack = {}, _ATTRIBUTE.size, _ATTRIBUTE.unpack_from  # an interface has forty of them
    while at + head <= len(data):
        length, kind = unpack(data, at)
        if length < head:
            break
        found[kind & ~_NESTED] = data[at + head : at + length]
        at += length + 3 & ~3
    return found


def word(value: bytes) -> str:
    """A string attribute."""
    return value.partition(b"\0")[0].decode(errors="replace")


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _link(message: bytes) -> Link:
    _, hardware, index, flags, _ = _IFINFO.unpack_from(message, _HEADER.size)
    found = attributes(message, _HEADER.size + _IFINFO.size)
    info = attributes(found.get(18, b""))  # IFLA_LINKINFO
    return Link(
        index,
        hardware,
        flags,
        name=word(found.get(3, b"")),
        mtu=_number(found.get(4, b"")),
        queue=_number(found.get(13, b"")),
        master=_number(found.get(10, b"")),
        lower=_number(found.get(5, b"")),
        qdisc=word(found.get(6, b"")),
        address=found.get(1, b"").hex(":"),
        kind=word(info.get(1, b"")) or "other",
    )


def _item(message: bytes) -> Item:
    _, index, handle, parent, info = _TCMSG.unpack_from(message, _HEADER.size)
    found = attributes(message, _HEADER.size + _TCMSG.size)
    return Item(index, handle, parent, info, word(found.get(1, b"")), found.get(2, b""), message)


def _clsact(index: int) -> bytes:
    return _TCMSG.pack(0, index, _CLSACT, _CLSACT_AT, 0) + _attribute(1, _text("clsact"))


def _filter(index: int, parent: int, prio: int, handle: int) -> bytes:
    return _TCMSG.pack(0, index, handle, parent, prio << 16 | _ALL_PROTOCOLS) + _attribute(1, _text("bpf"))


def _redirection(index: int) -> bytes:
    # struct tc_mirred: index, capab, action (TC_ACT_STOLEN), refcnt, bindcnt, eaction (to egress), ifindex
    parameters = struct.pack("=7I", 0, 0, 4, 0, 0, 1, index)
    action = _attribute(1, _text("mirred")) + _attribute(2 | _NESTED, _attribute(2, parameters))
    return _attribute(1 | _NESTED, _attribute(1, action))
