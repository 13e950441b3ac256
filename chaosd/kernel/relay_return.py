"""The way back from a relay's TAP device to the interface that its frames were taken from."""

from __future__ import annotations

import struct

from chaosd.kernel import bpf, netlink
from chaosd.kernel.edit import Edit, Undo
from chaosd.kernel.netlink import HANDLE, INGRESS, asking, gone_or_raise, rtnl
from chaosd.kernel.netns import DeviceRef
from chaosd.kernel.tc import CLSACT_MEND, FILTER_MEND

_TO_INGRESS = 1  # linux/bpf.h: BPF_F_INGRESS
_PRIO = 0xC4


class RelayReturn(Edit, frozen=True, tag="relay.return"):
    """A filter on the relay's device that sends what the relay writes back on its way.

    Args:
        tap: name of the relay's device; it vanishes with the relay, and this filter with it.
        origin: the interface that the frames were taken from.
        ingress: they were coming in there, not going out.
        mark: the mark of the gate that took them, which must let them pass now.
        run: as in Planning.
    """

    tap: str
    origin: DeviceRef
    ingress: bool
    mark: int
    run: str

    @property
    def slot(self) -> str:
        """The ingress side of the relay's device."""
        return f"tc.return:{self.origin.netns.inode}:{self.tap}"

    def describe(self) -> str:
        """One line: from where to where."""
        return f"return frames from {self.tap} to {self.origin.name} {'in' if self.ingress else 'e'}gress"

    def apply(self) -> None:
        """Add clsact and the filter to the relay's device."""
        flags = _TO_INGRESS if self.ingress else 0
        config = struct.pack("=3I", self.origin.ifindex, flags, self.mark)
        probe = bpf.Object("relay_return", config)
        bpf.live[self.slot] = probe
        with asking(f"clsact on {self.tap}", CLSACT_MEND), rtnl(self.origin.netns) as ip:
            ip.add_clsact(netlink.index_of(ip, self.tap))
        with asking(f"filter on {self.tap}", FILTER_MEND), rtnl(self.origin.netns) as ip:
            ip.add_filter(
                netlink.index_of(ip, self.tap),
                INGRESS,
                _PRIO,
                HANDLE << 24 | int(self.run, 16),
                program=probe.program("chaosd_return"),
                name=f"chaosd_return:{self.run}",
            )

    def revert(self) -> Undo:
        """Take clsact off the relay's device again, if the device is still there."""
        bpf.close(self.slot)
        try:
            with rtnl(self.origin.netns) as ip:
                index = netlink.index_of(ip, self.tap)
                if not index or netlink.hook_qdisc(ip, index) != "clsact":
                    return Undo.GONE
                ip.delete_clsact(index)
                return Undo.DONE
        except OSError as error:
            return gone_or_raise(error)

    def present(self) -> bool:
        """Whether the relay's device has our filter."""
        try:
            with rtnl(self.origin.netns) as ip:
                index = netlink.index_of(ip, self.tap)
                return bool(index) and any(found.ours for found in netlink.filters(ip, index))
        except OSError as error:
            return gone_or_raise(error) is not Undo.GONE
