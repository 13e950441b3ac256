"""Two joined namespaces in which what one sends to the other goes through a relay.

Two wires join them. What left sends over the first is redirected to the relay's TAP device and goes
on over the second, whose right end bears the first one's MAC address: no loop, and no marks needed.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import world
from pyroute2 import IPRoute

from chaosd.kernel.netns import DeviceRef, NetnsRef, inside
from chaosd.kernel.relay import Relay

RIGHT = "10.99.1.2"
SO_TIMESTAMPNS = 35
_serial = count()


def unused_name() -> str:
    """A device name that no other test has."""
    return f"chaosd{os.getpid() % 10**5}r{next(_serial)}"


def stamped(end: socket.socket) -> None:
    """Have the kernel note when each packet comes, so that a slow reader does not matter."""
    end.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def receive(end: socket.socket) -> tuple[bytes, float]:
    """A packet and when it came to the kernel, in seconds of the wall clock."""
    data, notes, _, _ = end.recvmsg(2000, 64)
    seconds, nanoseconds = struct.unpack("ll", notes[0][2])
    return data, seconds + nanoseconds / 1e9


class Detour:
    """Left and right; ``through`` a relay leads what left says to right, not the answers."""

    def __init__(self, left: NetnsRef, right: NetnsRef, wire: str, back: str) -> None:
        self.left, self.right, self._wire, self._back = left, right, wire, back

    @contextmanager
    def through(self, **settings: Any) -> Iterator[Relay]:
        relay = Relay(self.left, unused_name(), **settings)
        relay.apply()
        try:
            self._redirect(relay.name, "ingress", self._back)
            self._redirect(self._wire, "egress", relay.name)
            yield relay
        finally:
            self._tc("qdisc", "del", "dev", self._wire, "clsact")
            relay.revert()
            assert not relay.present()

    def _redirect(self, device: str, side: str, to: str) -> None:
        self._tc("qdisc", "add", "dev", device, "clsact")
        where = ("filter", "add", "dev", device, side, "protocol", "ip")
        self._tc(*where, "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", to)

    def _tc(self, *words: str) -> None:
        subprocess.run(["nsenter", f"--net={self.left.path}", "tc", *words], check=True, timeout=20)

    def socket(self, ns: NetnsRef, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        """A socket inside a namespace; its calls wait 10 s at most."""
        with inside(ns):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(10)
        return made

    def receiver(self, port: int) -> socket.socket:
        """A UDP socket on the right, with room for bursts."""
        made = self.socket(self.right)
        made.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        made.bind((RIGHT, port))
        return made

    def sender(self, port: int) -> socket.socket:
        """A UDP socket on the left, connected to the right's."""
        made = self.socket(self.left)
        made.connect((RIGHT, port))
        return made


@contextmanager
def detour() -> Iterator[Detour]:
    """Both namespaces and both wires."""
    with (
        world.netns() as left,
        world.netns() as right,
        world.veth(left, right, 1) as (wire, end),
        world.veth(left, right, 2) as (back, far),
    ):
        _same_address(right, end, far)
        yield Detour(left, right, wire.name, back.name)


def _same_address(ns: NetnsRef, model: DeviceRef, copy: DeviceRef) -> None:
    with inside(ns), IPRoute() as ip:
        address = ip.get_links(model.ifindex)[0].get_attr("IFLA_ADDRESS")
        ip.link("set", index=copy.ifindex, address=address)
        for name in ("all", copy.name):
            with open(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "w", encoding="ascii") as file:
                file.write("0")
