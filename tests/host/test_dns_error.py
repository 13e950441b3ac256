"""dns.error: what a resolver gets, whose questions are hit, and which names."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import traffic
import world
from injecting import everything, injected, lease, process
from traffic import TCP, UDP, likely, sock

from chaosd.faults.dns_error import DnsError
from chaosd.kernel.netns import NetnsRef, inside
from chaosd.units import Percent

NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
HERE, AWAY = ("127.0.0.1", "::1"), ("10.99.1.2", "fd99:1::2")
RECURSION, EDNS = 0x0100, b"\0\0\x29\x04\xd0\0\0\0\0\0\0"  # RFC 6891: OPT, 1232 bytes


def query(name: str, number: int, kind: int = 1) -> bytes:
    """A question as resolvers ask it, with EDNS."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    head = struct.pack("!6H", number, RECURSION, 1, 0, 0, 1)
    return head + labels + b"\0" + struct.pack("!2H", kind, 1) + EDNS


def reply(asked: bytes) -> bytes:
    """A name server's answer: 192.0.2.1, or nothing for what is no IPv4 address."""
    end = asked.index(b"\0", 12) + 5
    wanted = asked[end - 4 : end] == b"\0\1\0\1"
    head = asked[:2] + struct.pack("!5H", 0x8180, 1, int(wanted), 0, 0)
    return head + asked[12:end] + (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\xc0\0\2\1" if wanted else b"")


@contextmanager
def server(ns: NetnsRef, port: int = 53, address: str = "::") -> Iterator[None]:
    """A name server on UDP, and on TCP something that takes connections."""
    with inside(ns):
        wide = address == "::"
        family = socket.AF_INET6 if wide else socket.AF_INET
        udp = socket.socket(family, UDP)
        tcp = socket.create_server((address, port), family=family, dualstack_ipv6=wide)
        udp.bind((address, port))

    def serve() -> None:
        with suppress(OSError):
            while True:
                asked, peer = udp.recvfrom(2048)
                if not asked:  # the shutdown of the socket looks like a datagram from nobody
                    return
                udp.sendto(reply(asked), peer)

    with udp, tcp:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        with suppress(OSError):
            udp.shutdown(socket.SHUT_RDWR)
        thread.join()


def ask(
    ns: NetnsRef,
    address: str,
    name: str = "api.example.com",
    *,
    port: int = 53,
    times: int = 1,
    patience: float = traffic.PATIENCE,
) -> Counter[int | str]:
    """What comes of questions, each from a socket of its own: the RCODE, ``timeout`` or an errno."""
    said: Counter[int | str] = Counter()
    for number in range(times):
        with sock(ns, UDP, address) as end:
            end.settimeout(patience)
            said[_asked(end, (address, port), query(name, number + 1))] += 1
    return said


def _asked(end: socket.socket, where: tuple[str, int], question: bytes) -> int | str:
    try:
        end.connect(where)
        end.send(question)
        answer = end.recv(2048)
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    size = len(question) - len(EDNS)
    assert answer[:2] == question[:2]
    assert answer[2] & 0xF9 == 0x81  # an answer to a standard query, recursion desired
    assert answer[3] & 0x80  # recursion available
    assert answer[12:size] == question[12:size]
    return answer[3] & 15


@pytest.fixture
def wire() -> Iterator[tuple[NetnsRef, NetnsRef]]:
    """Two namespaces with name servers in both."""
    with (
        world.netns() as left,
        world.netns() as right,
        world.veth(left, right),
        server(left),
        server(right),
    ):
        yield left, right


Wire = tuple[NetnsRef, NetnsRef]


@pytest.mark.parametrize("address", [*HERE, *AWAY])
@pytest.mark.parametrize(("kind", "code"), [("servfail", SERVFAIL), ("nxdomain", NXDOMAIN)])
def test_questions_are_answered_with_an_error(wire: Wire, address: str, kind: str, code: int) -> None:
    left, _ = wire
    assert ask(left, address) == {NOERROR: 1}
    with injected(DnsError(kind=kind), everything(left)) as run:  # type: ignore[arg-type]
        assert ask(left, address, times=5) == {code: 5}
        assert (run.evidence.matched, run.evidence.injected, run.evidence.unit) == (5, 5, "queries")
    assert ask(left, address) == {NOERROR: 1}


@pytest.mark.parametrize("address", [*HERE, *AWAY])
@pytest.mark.parametrize("sums", [True, False])
def test_the_checksum_of_an_answer_is_right(wire: Wire, address: str, sums: bool) -> None:
    """Where the network card makes checksums and where it does not; and where UDP has none."""
    left, _ = wire
    with injected(DnsError(), everything(left)), sock(left, UDP, address) as end:
        if not sums:
            end.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        assert _asked(end, (address, 53), query("a.example.com", 1)) == SERVFAIL


@pytest.mark.parametrize("address", [HERE[0], AWAY[1]])
def test_questions_get_no_answer(wire: Wire, address: str) -> None:
    left, _ = wire
    with injected(DnsError(kind="timeout"), everything(left)) as run:
        assert ask(left, address, times=3, patience=0.5) == {"timeout": 3}
        assert (run.evidence.matched, run.evidence.injected) == (3, 3)
        lease(-1)
        assert ask(left, address) == {NOERROR: 1}
        assert run.evidence.skipped == {"lease": 1}


@pytest.mark.parametrize(("kind", "outcome"), [("servfail", errno.ECONNREFUSED), ("timeout", errno.EAGAIN)])
@pytest.mark.parametrize("address", [*HERE, *AWAY])
def test_name_servers_cannot_be_asked_over_tcp(wire: Wire, kind: str, outcome: int, address: str) -> None:
    left, _ = wire
    with injected(DnsError(kind=kind), everything(left)) as run:  # type: ignore[arg-type]
        with sock(left, TCP, address) as end:
            end.settimeout(0.5)
            assert end.connect_ex((address, 53)) == outcome
        assert run.evidence.injected == 1
    with injected(DnsError(names=["*.com"]), everything(left)), sock(left, TCP, address) as end:
        assert end.connect_ex((address, 53)) == 0


NAMES = [
    ("*.example.com", ["example.com", "a.example.com", "A.b.EXAMPLE.com"], ["badexample.com", "example.org"]),
    ("api.internal", ["api.internal", "API.Internal"], ["a.api.internal", "api.internal.lan", "internal"]),
    (".com", ["com", "x.com", ".".join(["a" * 60] * 4) + ".com"], ["org", "com.org"]),
]


@pytest.mark.parametrize("address", [HERE[0], AWAY[1]])
@pytest.mark.parametrize(("pattern", "hit", "spared"), NAMES)
def test_questions_for_some_names(
    wire: Wire, address: str, pattern: str, hit: list[str], spared: list[str]
) -> None:
    left, _ = wire
    with injected(DnsError(names=["*.unrelated.net", pattern]), everything(left)) as run:
        for name in hit:
            assert ask(left, address, name) == {SERVFAIL: 1}, name
        for name in spared:
            assert ask(left, address, name) == {NOERROR: 1}, name
        assert (run.evidence.matched, run.evidence.injected) == (len(hit), len(hit))


def test_a_share_of_questions_and_a_budget(wire: Wire) -> None:
    left, _ = wire
    with injected(DnsError(percent=Percent(25)), everything(left)) as run:
        said = ask(left, AWAY[0], times=200)
        assert said[SERVFAIL] == run.evidence.injected
        assert said[SERVFAIL] in likely(200, 0.25)
        assert run.evidence.skipped == {"probability": said[NOERROR]}
    with injected(DnsError(budget=7, kind="nxdomain"), everything(left)) as run:
        assert ask(left, AWAY[0], times=20) == {NXDOMAIN: 7, NOERROR: 13}
        assert run.evidence.skipped == {"budget": 13}


def test_other_ports_and_servers(wire: Wire) -> None:
    left, right = wire
    with server(right, 5353), injected(DnsError(ports=[5353], exclude=[AWAY[0]]), everything(left)):
        assert ask(left, AWAY[0], port=5353) == ask(left, AWAY[1]) == {NOERROR: 1}
        assert ask(left, AWAY[1], port=5353) == {SERVFAIL: 1}


_CLIENT = """
import socket, sys
print("up", flush=True)
for line in sys.stdin:
    what, server = line.split()
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.settimeout(20)
        try:
            if what == "connect":
                end.connect((server, 53)); end.send(%(query)r)
            else:
                end.sendto(%(query)r, (server, 53))
            print(end.recv(2048)[3] & 15, flush=True)
        except OSError as error:
            print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("address", [*HERE, *AWAY])
def test_one_process_is_hit_and_its_neighbor_is_not(wire: Wire, address: str) -> None:
    left, _ = wire
    argv = world.python(_CLIENT % {"query": query("a.example.com", 77)})
    with world.spawn(argv, ns=left) as target, world.spawn(argv, ns=left) as neighbor:
        children = (target, neighbor)
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"

        def said(what: str) -> list[str]:
            for child in children:
                assert child.stdin is not None
                child.stdin.write(f"{what} {address}\n")
            return [child.stdout.readline().strip() for child in children if child.stdout]

        for kind, answer in (("servfail", "2"), ("nxdomain", "3"), ("refused", "ConnectionRefusedError")):
            with injected(DnsError(kind=kind), process(target.pid, left)) as run:  # type: ignore[arg-type]
                assert said("connect") == said("sendto") == [answer, "0"]
                assert (run.evidence.matched, run.evidence.injected) == (2, 2)
        assert said("connect") == ["0", "0"]


_RESOLVE = """
import ctypes, os, socket, sys
libc, conf = ctypes.CDLL(None), os.path.realpath("/etc/resolv.conf").encode()
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
assert libc.mount(sys.argv[1].encode(), conf, None, 0x1000, None) == 0
try:
    print(socket.getaddrinfo("api.example.com", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
except socket.gaierror as error:
    print({socket.EAI_AGAIN: "EAI_AGAIN", socket.EAI_NONAME: "EAI_NONAME"}[error.errno])
"""


@pytest.mark.parametrize("address", [HERE[0], *AWAY])
def test_what_getaddrinfo_says(wire: Wire, address: str, tmp_path: object) -> None:
    left, _ = wire
    conf = f"{tmp_path}/resolv.conf"
    with open(conf, "w", encoding="ascii") as file:
        file.write(f"nameserver {address}\noptions timeout:1 attempts:1\n")

    def resolved() -> str:
        with world.spawn(world.python(_RESOLVE, conf), ns=left) as child:
            return child.communicate(timeout=60)[0].strip()

    assert resolved() == "192.0.2.1"
    for kind, answer in (("servfail", "EAI_AGAIN"), ("nxdomain", "EAI_NONAME"), ("timeout", "EAI_AGAIN")):
        with injected(DnsError(kind=kind), everything(left)) as run:  # type: ignore[arg-type]
            assert resolved() == answer
            assert run.evidence.injected >= 1
    assert resolved() == "192.0.2.1"


def _translated(ns: NetnsRef, *rule: str) -> None:
    with inside(ns):
        done = subprocess.run(["iptables", "-t", "nat", *rule], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no NAT here: {done.stderr}")


@pytest.mark.parametrize("by", ["pid", "netns"])
@pytest.mark.parametrize(
    ("kind", "outcome"), [("timeout", "timeout"), ("servfail", SERVFAIL), ("nxdomain", NXDOMAIN)]
)
def test_docker_s_name_server_is_met_behind_its_nat(by: str, kind: str, outcome: int | str) -> None:
    """It listens at 127.0.0.11, and these are the rules by which Docker leads port 53 to it."""
    with world.netns() as ns, server(ns, 41234, "127.0.0.11"):
        there = ("-d", "127.0.0.11", "-p", "udp", "--dport", "53")
        back = ("-s", "127.0.0.11", "-p", "udp", "--sport", "41234")
        _translated(ns, "-A", "OUTPUT", *there, "-j", "DNAT", "--to-destination", "127.0.0.11:41234")
        _translated(ns, "-A", "POSTROUTING", *back, "-j", "SNAT", "--to-source", ":53")
        target = everything(ns) if by == "netns" else process(os.getpid(), ns)
        assert ask(ns, "127.0.0.11") == {NOERROR: 1}
        with injected(DnsError(kind=kind), target) as run:  # type: ignore[arg-type]
            assert ask(ns, "127.0.0.11", times=2, patience=1 if kind == "timeout" else 20) == {outcome: 2}
            assert (run.evidence.matched, run.evidence.injected) == (2, 2)
        assert ask(ns, "127.0.0.11") == {NOERROR: 1}


def test_what_is_no_question_goes_on(wire: Wire) -> None:
    left, right = wire
    with injected(DnsError(ports=[7001]), everything(left)) as run, traffic.echo(right, 7001):
        with sock(left, UDP, AWAY[0]) as end:
            end.connect((AWAY[0], 7001))
            for sent in (b"x", b"\0\0\x80\0" + bytes(20), b"\0\0\x28\0" + bytes(20)):
                end.send(sent)
                assert end.recv(100) == sent
        assert run.evidence.matched == 0


@pytest.mark.parametrize(
    "fault",
    [
        DnsError(names=["exa*mple.com"]),
        DnsError(names=["a..b"]),
        DnsError(names=["*"]),
        DnsError(names=["."]),
        DnsError(names=["ü.example"]),
        DnsError(names=["a" * 64 + ".com"]),
        DnsError(kind="refused", names=["a.com"]),
        DnsError(direction="ingress"),
        DnsError(protocol="icmp", ports=[]),
        DnsError(mechanism="cgroup"),
        DnsError(kind="refused", mechanism="gate"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(fault: DnsError) -> None:
    assert len(fault.check()) == 1
