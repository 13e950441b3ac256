"""Interfaces on top of others: a packet passes two of our gates on its way, and is met once."""

from __future__ import annotations

import base64
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import traffic
import world
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from injecting import device, everything, injected, process
from pyroute2.netlink.generic.wireguard import WireGuard
from traffic import UDP, drawn
from world import python

from chaosd.faults.network_delay import NetworkDelay
from chaosd.faults.network_loss import NetworkLoss
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside
from chaosd.units import Duration, Percent

timing = pytest.mark.alone

PORT = 7001
MANY = 499
DELAY = 0.1
NEAR, FAR = "10.98.0.1", "10.98.0.2"
LOW_NEAR, LOW_FAR = "10.99.1.1", "10.99.1.2"
SEND = """
import socket
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.connect(("{0}", {1}))
input()
for number in range({2}): end.send(number.to_bytes(4, "little"))
print("sent", flush=True)
input()
"""


class Stack(NamedTuple):
    """Two namespaces with a wire, and on it another pair of interfaces; ``left`` and ``upper`` are ours."""

    left: DeviceRef
    upper: DeviceRef
    right: NetnsRef


Make = Callable[[str, str, str, str], list[str]]
"""The commands of ip(8) that make an interface: given its name, the wire's, our address and the other's."""

KINDS: dict[str, Make] = {
    "vlan": lambda up, low, _, __: [f"link add link {low} name {up} type vlan id 7"],
    "qinq": lambda up, low, _, __: [
        f"link add link {low} name outer type vlan proto 802.1ad id 5",
        "link set outer up",
        f"link add link outer name {up} type vlan id 7",
    ],
    "bridge": lambda up, low, _, __: [f"link add {up} type bridge", f"link set {low} master {up}"],
    "bond": lambda up, low, _, __: [
        f"link add {up} type bond mode active-backup",
        f"link set {low} down",
        f"link set {low} master {up}",
    ],
    "macvlan": lambda up, low, _, __: [f"link add link {low} name {up} type macvlan mode bridge"],
    "ipvlan": lambda up, low, _, __: [f"link add link {low} name {up} type ipvlan mode l2"],
    "vxlan": lambda up, low, here, there: [
        f"link add {up} type vxlan id 7 local {here} remote {there} dstport 4789 dev {low}"
    ],
    "gre": lambda up, _, here, there: [f"link add {up} type gre local {here} remote {there}"],
    "ipip": lambda up, _, here, there: [f"link add {up} type ipip local {here} remote {there}"],
    "wireguard": lambda up, _, __, ___: [f"link add {up} type wireguard"],
}
ENSLAVE = ("bridge", "bond")
"""What takes the wire for itself: no traffic of the wire's own is left."""
ONCE = [kind for kind in KINDS if kind != "wireguard"]
once = pytest.mark.parametrize("kind", ONCE, indirect=True)


def _ip(ns: NetnsRef, command: str) -> None:
    with inside(ns):
        done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
    if "Unknown device type" in done.stderr:
        pytest.skip(f"this kernel has no {command.split()[command.split().index('type') + 1]}")
    assert done.returncode == 0, (command, done.stderr)


def _peers(near: NetnsRef, far: NetnsRef) -> None:
    keys = [X25519PrivateKey.generate() for _ in range(2)]
    secret = [base64.b64encode(key.private_bytes_raw()).decode() for key in keys]
    public = [base64.b64encode(key.public_key().public_bytes_raw()).decode() for key in keys]
    for ns, mine, theirs, end in ((near, 0, 1, LOW_FAR), (far, 1, 0, LOW_NEAR)):
        peer = {"public_key": public[theirs], "endpoint_addr": end, "endpoint_port": 51820}
        with inside(ns), WireGuard() as guard:
            guard.set(
                "upper",
                private_key=secret[mine],
                listen_port=51820,
                peer=peer | {"allowed_ips": ["0.0.0.0/0"]},
            )


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stack(kind: str) -> Iterator[Stack]:
    with world.netns() as near, world.netns() as far, world.veth(near, far) as ends:
        for ns, end, here, there, own in (
            (near, ends[0], LOW_NEAR, LOW_FAR, NEAR),
            (far, ends[1], LOW_FAR, LOW_NEAR, FAR),
        ):
            for command in KINDS[kind]("upper", end.name, here, there):
                _ip(ns, command)
            with inside(ns):  # its discovery would be traffic of the wire's, where there is a tunnel
                Path("/proc/sys/net/ipv6/conf/upper/disable_ipv6").write_text("1", "ascii")
            _ip(ns, f"addr add {own}/24 dev upper")
            _ip(ns, f"link set {end.name} up")
            _ip(ns, "link set upper up")
        if kind == "wireguard":
            _peers(near, far)
        with inside(near):
            index = socket.if_nametoindex("upper")
        with traffic.echo(far, PORT):
            world.until(lambda: traffic.answers(near, FAR, PORT, 1) == 1, f"nothing passes the {kind}")
        yield Stack(ends[0], DeviceRef(near, index, "upper"), far)


def sent(stack: Stack, address: str = FAR) -> list[int]:
    return traffic.delivered(stack.left.netns, stack.right, address, PORT, MANY, pause=0.0002)


@once
def test_a_packet_is_met_once(stack: Stack) -> None:
    fault = NetworkLoss(percent=Percent(30), protocol="udp")
    with injected(fault, everything(stack.left.netns)) as run:
        lost = MANY - len(sent(stack))
        assert (run.evidence.matched, run.evidence.injected) == (MANY, lost)
        assert lost == drawn(7, MANY, 0.3)
    assert len(sent(stack)) == MANY


@once
@timing
def test_a_packet_is_late_once(stack: Stack) -> None:
    with traffic.echo(stack.right, PORT):
        with injected(NetworkDelay(delay=Duration(DELAY)), everything(stack.left.netns)):
            assert DELAY < traffic.round_trip(stack.left.netns, UDP, FAR, PORT) < 1.6 * DELAY
        with injected(NetworkDelay(delay=Duration(DELAY), direction="both"), everything(stack.left.netns)):
            assert 2 * DELAY < traffic.round_trip(stack.left.netns, UDP, FAR, PORT) < 2.6 * DELAY
        assert traffic.round_trip(stack.left.netns, UDP, FAR, PORT) < 0.6 * DELAY


@pytest.mark.parametrize("kind", ["wireguard"], indirect=True)
def test_what_is_encrypted_is_another_packet(stack: Stack) -> None:
    """Which a target that is all traffic has as well: it is told by its protocol and port alone."""
    ns = stack.left.netns
    with injected(NetworkLoss(percent=Percent(30), protocol="udp"), everything(ns)) as run:
        lost = MANY - len(sent(stack))
        assert MANY < run.evidence.matched < 2 * MANY
        assert run.evidence.injected == lost
    for told in ({"ports": [PORT]}, {"devices": ["upper"]}):
        with injected(NetworkLoss(percent=Percent(30), **told), everything(ns)) as run:
            lost = MANY - len(sent(stack))
            assert (run.evidence.matched, run.evidence.injected) == (MANY, lost)


def test_one_process_among_others(stack: Stack) -> None:
    script = SEND.format(FAR, PORT + 1, 31)
    ns = stack.left.netns
    with world.spawn(python(script), ns=ns) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with injected(NetworkLoss(percent=Percent(100)), process(child.pid, ns)) as run:
            # its socket is older than the fault, and is found all the same
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "sent\n"
            assert (run.evidence.matched, run.evidence.injected) == (31, 31)
            assert len(sent(stack)) == MANY


@timing
def test_an_interface_by_name(stack: Stack, kind: str) -> None:
    """The upper one leaves alone what goes by the wire; whatever goes by the upper one passes the wire."""
    ns = stack.left.netns
    with traffic.echo(stack.right, PORT):
        with injected(NetworkDelay(delay=Duration(DELAY)), device(stack.upper)):
            assert DELAY < traffic.round_trip(ns, UDP, FAR, PORT) < 1.6 * DELAY
            if kind not in ENSLAVE:
                assert traffic.round_trip(ns, UDP, LOW_FAR, PORT) < 0.6 * DELAY
        with injected(NetworkDelay(delay=Duration(DELAY)), device(stack.left)):
            assert DELAY < traffic.round_trip(ns, UDP, FAR, PORT) < 1.6 * DELAY
