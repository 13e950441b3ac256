"""Links, qdiscs, classes and filters are read as pyroute2 reads them, and what counts is left out."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Iterator

import pytest
import traffic
import world
from pyroute2 import IPRoute

from chaosd.kernel import netlink
from chaosd.kernel.netlink import EGRESS, INGRESS
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside

MATCHES = ("protocol", "ip", "u32", "match", "u32", "0", "0")


def tc(ns: NetnsRef, *words: str) -> None:
    with inside(ns):
        subprocess.run(["tc", *words], check=True, capture_output=True)


@pytest.fixture
def busy() -> Iterator[DeviceRef]:
    """An interface with classes, a filter that acts, and one that chaosd might have made."""
    with world.netns() as near, world.netns() as far, world.veth(near, far) as (left, _):
        on = ("dev", left.name)
        tc(near, "qdisc", "add", *on, "root", "handle", "1:", "htb", "default", "10")
        tc(near, "class", "add", *on, "parent", "1:", "classid", "1:10", "htb", "rate", "1gbit")
        tc(near, "qdisc", "add", *on, "parent", "1:10", "tbf", "rate", "1gbit", "burst", "1m", "limit", "1m")
        tc(near, "qdisc", "add", *on, "clsact")
        mirror = ("action", "mirred", "egress", "mirror", "dev", "lo")
        tc(near, "filter", "add", *on, "egress", "prio", "3", *MATCHES, *mirror)
        tc(near, "filter", "add", *on, "ingress", "prio", "7", "bpf", "bytecode", "1,6 0 0 0")
        with traffic.echo(far, 7):
            yield left


CARRIER = 0x40 | 0x10000  # IFF_RUNNING and IFF_LOWER_UP (linux/if.h), which come a moment later


def test_links_are_read_as_by_pyroute2(busy: DeviceRef) -> None:
    with netlink.rtnl(busy.netns) as ip, IPRoute() as theirs:
        ours = ip.links()
        by_name = ip.find(busy.name)
        assert by_name == ip.link(busy.ifindex)
        assert by_name in ours
        assert by_name is not None
        assert by_name.kind == "veth"
        for link, other in zip(ours, theirs.get_links(), strict=True):
            said = [other.get(f"IFLA_{name}") for name in ("IFNAME", "MTU", "QDISC", "TXQLEN")]
            assert said == [link.name, link.mtu, link.qdisc, link.queue]
            # pyroute2 takes each address for one of Ethernet, that of a tunnel as well, which has four bytes
            address = other.get("IFLA_ADDRESS", "")
            assert address.startswith(link.address)
            assert len(link.address) in (len(address), len("00:00:00:00"))
            assert other["flags"] & ~CARRIER == link.flags & ~CARRIER
            assert (other["index"], other["ifi_type"]) == (link.index, link.hardware)
            assert (other.get("IFLA_LINK") or 0, other.get("IFLA_MASTER") or 0) == (link.lower, link.master)


def test_traffic_control_is_read_as_by_pyroute2(busy: DeviceRef) -> None:
    with netlink.rtnl(busy.netns) as ip, IPRoute() as theirs:
        pairs = [
            (ip.qdiscs(), theirs.get_qdiscs()),
            (ip.classes(busy.ifindex), theirs.get_classes(busy.ifindex)),
        ]
        pairs += [
            (ip.filters(busy.ifindex, parent), theirs.get_filters(busy.ifindex, 0, parent))
            for parent in (0, INGRESS, EGRESS)
        ]
        found = 0
        for ours, others in pairs:
            for item, other in zip(ours, others, strict=True):
                place = (other["index"], other["handle"], other["parent"], other["info"])
                assert (item.index, item.handle, item.parent, item.info) == place
                assert item.kind == other.get("TCA_KIND")
                found += 1
        assert found >= 7


def test_what_counts_is_not_among_the_surroundings(busy: DeviceRef) -> None:
    before = netlink.surroundings(busy.netns)
    assert sum(" class " in name for name in before) == 2
    assert sum(" filter " in name for name in before) >= 2
    assert traffic.round_trip(busy.netns, socket.SOCK_STREAM, "10.99.1.2", 7) < 1
    assert netlink.surroundings(busy.netns) == before
    tc(busy.netns, "class", "change", "dev", busy.name, "classid", "1:10", "htb", "rate", "2gbit")
    changed = netlink.surroundings(busy.netns)
    assert [name for name in before if changed[name] != before[name]] != []
    tc(busy.netns, "filter", "del", "dev", busy.name, "egress", "prio", "3")
    assert netlink.surroundings(busy.netns).keys() < before.keys()


def test_refusals_have_the_errno_of_the_kernel(busy: DeviceRef) -> None:
    with netlink.rtnl(busy.netns) as ip:
        assert ip.find("nosuch") is None
        assert ip.link(9999) is None
        for ask, code in (
            (lambda: ip.add_link(busy.name, "ifb"), errno.EEXIST),
            (lambda: ip.add_link("chaosd-no", "nosuchkind"), errno.EOPNOTSUPP),
            (lambda: ip.delete_link(9999), errno.ENODEV),
            (lambda: ip.add_clsact(busy.ifindex), errno.EEXIST),
            (lambda: ip.set_root(busy.ifindex, 0x10000, "nosuch", b""), errno.EEXIST),
        ):
            with pytest.raises(OSError, match=r"^\[Errno") as told:
                ask()
            assert told.value.errno == code
        assert ip.links()  # an answer that was an error leaves nothing behind
