"""Traffic control through netlink: clsact, our own ifb devices, and filters that hang gates on interfaces.

Nothing that stands is replaced. A filter of ours is told from a stranger's by priority, handle
and the name of its program.
"""

from __future__ import annotations

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.kernel import netlink
from chaosd.kernel.edit import Edit, Undo
from chaosd.kernel.gate import Program
from chaosd.kernel.gate import program as loaded
from chaosd.kernel.netlink import EGRESS, HANDLE, INGRESS, Interface, asking, gone_or_raise, rtnl
from chaosd.kernel.netns import DeviceRef, NetnsRef
from chaosd.kernel.rtnetlink import Rtnl

CLSACT_MEND = "needs CONFIG_NET_SCH_INGRESS (module sch_ingress)"
FILTER_MEND = "needs CONFIG_NET_CLS_BPF and CONFIG_NET_ACT_MIRRED (modules cls_bpf, act_mirred)"
_DEFAULT_QUEUE = 1000  # DEFAULT_TX_QUEUE_LEN, include/net/pkt_sched.h
IFB_MEND = "needs CONFIG_IFB (module ifb; on Fedora and RHEL in kernel-modules-extra)"


class Clsact(Edit, frozen=True, tag="tc.clsact"):
    """A clsact qdisc on a device that had none; it changes nothing by itself.

    Several faults plan the very same edit, which is then done once. On a device that was made
    ``queueless``, as a container's is by Docker, the kernel puts a default for the length of 0 of its
    transmit queue when a qdisc is added (qdisc_create(), net/sched/sch_api.c).
    """

    device: DeviceRef
    queueless: bool = False

    @property
    def slot(self) -> str:
        """The device's place for clsact."""
        return f"tc.clsact:{self.device.netns.inode}:{self.device.ifindex}"

    def describe(self) -> str:
        """One line: the device."""
        return f"add clsact to {self.device.name}"

    def apply(self) -> None:
        """Add it.

        Raises:
            ForeignStateError: somebody has added one since the plan was made.
        """
        with asking(f"clsact on {self.device.name}", CLSACT_MEND), rtnl(self.device.netns) as ip:
            try:
                ip.add_clsact(self.device.ifindex)
            except FileExistsError:
                standing = netlink.hook_qdisc(ip, self.device.ifindex)
                raise ForeignStateError(f"{self.device.name} has got a {standing} qdisc meanwhile") from None

    def revert(self) -> Undo:
        """Remove it, unless filters of strangers live on it by now.

        Raises:
            ChaosdError: filters of ours are still on it.
        """
        try:
            with rtnl(self.device.netns) as ip:
                return self._remove(ip)
        except OSError as error:
            return gone_or_raise(error)

    def _remove(self, ip: Rtnl) -> Undo:
        if netlink.hook_qdisc(ip, self.device.ifindex) != "clsact":
            return self._shorten(ip, Undo.GONE)
        left = list(netlink.filters(ip, self.device.ifindex))
        if any(not found.ours for found in left):
            return Undo.FOREIGN
        if left:
            raise ChaosdError(f"clsact of {self.device.name} still holds filters of chaosd")
        ip.delete_clsact(self.device.ifindex)
        return self._shorten(ip, Undo.DONE)

    def _shorten(self, ip: Rtnl, otherwise: Undo) -> Undo:
        link = ip.link(self.device.ifindex) if self.queueless else None
        if link is None or link.queue != _DEFAULT_QUEUE:
            return otherwise
        ip.set_queue(link.index, 0)
        return Undo.DONE

    def present(self) -> bool:
        """Whether the device has clsact."""
        try:
            with rtnl(self.device.netns) as ip:
                return netlink.hook_qdisc(ip, self.device.ifindex) == "clsact"
        except OSError as error:
            return gone_or_raise(error) is not Undo.GONE

    @property
    def scope(self) -> str:
        """The namespace, which is read once for all its edits."""
        return f"netns:{self.device.netns.inode}"

    def surroundings(self) -> dict[str, str]:
        """Every link, qdisc and filter of the namespace."""
        return netlink.surroundings(self.device.netns)


class Ifb(Edit, frozen=True, tag="tc.ifb"):
    """A device of our own that takes packets from a filter and puts them back behind it."""

    netns: NetnsRef
    name: str

    @property
    def slot(self) -> str:
        """The name in its namespace."""
        return f"link:{self.netns.inode}:{self.name}"

    def describe(self) -> str:
        """One line: the name."""
        return f"create ifb device {self.name}"

    def apply(self) -> None:
        """Create it and set it up (``UnsupportedError`` where there is no ifb)."""
        with asking(f"ifb device {self.name}", IFB_MEND), rtnl(self.netns) as ip:
            ip.add_link(self.name, "ifb")
            with open(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6", "w", encoding="ascii") as file:
                file.write("1")  # no address and no chatter of its own
            ip.set_up(netlink.index_of(ip, self.name))

    def revert(self) -> Undo:
        """Delete it; a device of this name that is no ifb is a stranger's."""
        try:
            with rtnl(self.netns) as ip:
                link = ip.find(self.name)
                if link is None or link.kind != "ifb":
                    return Undo.FOREIGN if link else Undo.GONE
                ip.delete_link(link.index)
                return Undo.DONE
        except OSError as error:
            return gone_or_raise(error)

    def present(self) -> bool:
        """Whether there is an ifb device of this name."""
        try:
            with rtnl(self.netns) as ip:
                link = ip.find(self.name)
                return link is not None and link.kind == "ifb"
        except FileNotFoundError:
            return False


def side_of(program: Program) -> int:
    """The filter parent where a program of the gate belongs."""
    return INGRESS if program == "chaosd_in" else EGRESS


def free_prios(interface: Interface, parent: int, count: int) -> tuple[int, int]:
    """The first of ``count`` priorities in a row that no stranger's filter has, before all if possible.

    Returns:
        The priority, and how many filters of strangers come before it.
    """
    if not interface.hook:
        return 1, 0
    with rtnl(interface.ref.netns) as ip:
        hung = netlink.filters(ip, interface.ref.ifindex, (parent,))
        found = [f.prio for f in hung if not f.ours]
    first = next(
        p for p in [1, *(n + 1 for n in sorted(found))] if not any(p <= n < p + count for n in found)
    )
    return first, sum(prio < first for prio in found)


class Hook(Edit, frozen=True, tag="tc.hook"):
    """A filter on an interface that asks a gate about each packet.

    Args:
        device: where.
        gate: the slot of the loaded gate.
        run: as in Planning.
        prio: where it stands among the filters of its side, from ``free_prios`` and the gate's rank.
        program: which of the gate's programs; this also says which side of the interface.
        redirect: our own device that the chosen packets are sent to; empty where the gate
            itself does all there is to do.
        behind: filters of strangers that come first; one that decides keeps the packet from ours.
    """

    device: DeviceRef
    gate: str
    run: str
    prio: int
    program: Program
    redirect: str = ""
    behind: int = 0

    @property
    def slot(self) -> str:
        """Parent, priority and handle on the device."""
        at = f"{self.device.netns.inode}:{self.device.ifindex}"
        return f"tc.filter:{at}:{self.parent:x}:{self.prio}:{self.handle:x}"

    @property
    def parent(self) -> int:
        """The side of clsact; on lo everything is met when it leaves."""
        return side_of(self.program)

    @property
    def handle(self) -> int:
        """In our own range, different for every run and for the two programs that share lo."""
        return (HANDLE + (self.program == "chaosd_loop_in")) << 24 | int(self.run, 16)

    def describe(self) -> str:
        """One line: device, side and what happens."""
        side = "ingress" if self.parent == INGRESS else "egress"
        then = f", redirecting to {self.redirect}" if self.redirect else ""
        after = f", behind {self.behind} of another's, which may decide first" if self.behind else ""
        return f"filter on {self.device.name} {side}{then}{after}"

    def apply(self) -> None:
        """Add the filter (``UnsupportedError`` as the kernel says)."""
        fd = loaded(self.gate, self.program)
        with asking(f"filter on {self.device.name}", FILTER_MEND), rtnl(self.device.netns) as ip:
            # not bpf_redirect(): ifb needs skb_iif, which only mirred sets
            way = ip.find(self.redirect) if self.redirect else None
            if self.redirect and way is None:
                raise ChaosdError(f"there is no device {self.redirect} to send packets to")
            name = f"{self.program}:{self.run}"
            ip.add_filter(*self._place, program=fd, name=name, redirect=way.index if way else 0)

    @property
    def _place(self) -> tuple[int, int, int, int]:
        return self.device.ifindex, self.parent, self.prio, self.handle

    def revert(self) -> Undo:
        """Remove the filter; one at its place with another program is a stranger's."""
        try:
            with rtnl(self.device.netns) as ip:
                found = self._found(ip)
                if found is None or not found.ours:
                    return Undo.FOREIGN if found else Undo.GONE
                ip.delete_filter(*self._place)
                return Undo.DONE
        except OSError as error:
            return gone_or_raise(error)

    def _found(self, ip: Rtnl) -> netlink.Filter | None:
        place = (self.parent, self.prio, self.handle)
        on_device = netlink.filters(ip, self.device.ifindex, (self.parent,))
        return next((f for f in on_device if (f.parent, f.prio, f.handle) == place), None)

    def present(self) -> bool:
        """Whether our filter is there."""
        try:
            with rtnl(self.device.netns) as ip:
                found = self._found(ip)
                return found is not None and found.ours
        except OSError as error:
            return gone_or_raise(error) is not Undo.GONE

    def lost(self) -> str:
        """The interface or the filter has been taken away."""
        return "" if self.present() else f"the filter on {self.device.name} is gone"

    @property
    def scope(self) -> str:
        """The namespace, which is read once for all its edits."""
        return f"netns:{self.device.netns.inode}"

    def surroundings(self) -> dict[str, str]:
        """Every link, qdisc, class and filter of the namespace."""
        return netlink.surroundings(self.device.netns)
