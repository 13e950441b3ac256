"""What this kernel can do to traffic, tried in a scratch namespace."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL, get_errno
from threading import Thread

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import bpf, hooks
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.cgroup import UNIFIED, CgroupRef, hierarchies
from chaosd.kernel.gate import Gate
from chaosd.kernel.injection import Injection
from chaosd.kernel.match import Filters, Rule
from chaosd.kernel.netem import Netem, Tbf
from chaosd.kernel.netlink import rtnl
from chaosd.kernel.netns import DeviceRef, NetnsRef
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.reset import MEND, Reset
from chaosd.kernel.sockets import Tagging
from chaosd.kernel.syscalls import Calls
from chaosd.kernel.tasks import Members
from chaosd.kernel.tc import Clsact, Hook, Ifb

_CLONE_NEWNET = 0x40000000
_SCRATCH = "chaosd-try"
_RUN = "000000"
_INDEX = 63


def in_scratch_netns(attempt: Callable[[NetnsRef], None]) -> Verdict:
    """Run an attempt in a namespace of its own, which ends with it; what it raises is the reason."""
    verdicts: list[Verdict] = []
    thread = Thread(target=lambda: verdicts.append(_verdict(attempt)))
    thread.start()
    thread.join()
    return verdicts[0]


def _verdict(attempt: Callable[[NetnsRef], None]) -> Verdict:
    if CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return Verdict(
            ok=False, reason=f"no network namespace: {os.strerror(get_errno())}", mend="run as root"
        )
    try:
        attempt(NetnsRef.at("/proc/thread-self/ns/net"))
    except ChaosdError as error:
        return Verdict(ok=False, reason=error.message, mend=error.hint)
    except OSError as error:
        return Verdict(ok=False, reason=str(error))
    return Verdict(ok=True)


def modprobe(*modules: str) -> None:
    """Load modules that a capability may need; whether it worked shows when it is tried."""
    with suppress(FileNotFoundError):
        subprocess.run(["modprobe", "-qa", *modules], check=False, capture_output=True)


@capability("gate", lasting=True)
def GATE() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether packets can be picked on an interface: libbpf, eBPF, clsact and cls_bpf."""
    modprobe("sch_ingress", "cls_bpf", "act_mirred")
    return in_scratch_netns(lambda netns: _must_meet(netns, ""))


def _must_meet(netns: NetnsRef, tagging: str) -> None:
    # the canary: a packet of our own on lo that the gate has to meet; it spares it (chance 0)
    gate = Gate(_RUN, _INDEX, netns, "drop", Filters(), Rule.chance(0, 0.0), tagging)
    try:
        _hang(netns, gate, "")
        with rtnl(netns) as ip:
            ip.set_up(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as canary:
            canary.sendto(b"", ("127.0.0.1", 9))
        met = gate.evidence()
        if met is None or met.matched == 0:
            raise UnsupportedError("the gate attaches but meets no packet")
    finally:
        gate.revert()


def _hang(netns: NetnsRef, gate: Gate, redirect: str) -> None:
    device = DeviceRef(netns, 1, "lo")
    Clsact(device).apply()
    gate.apply()
    Hook(device, gate.slot, _RUN, 1, "chaosd_loop_out", redirect).apply()


@capability("tagging", lasting=True)
def TAGGING() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether the packets of one process can be told from others: sk_storage, cgroup v2, raw tracepoints."""
    return in_scratch_netns(_tag_ourselves)


def _tag_ourselves(netns: NetnsRef) -> None:
    tagging = Tagging(_RUN, _INDEX, Members(_v2(), entire=False, processes=(ProcessRef.of(os.getpid()),)))
    tagging.apply()
    try:
        _must_meet(netns, tagging.slot)
    finally:
        tagging.revert()


def _v2() -> CgroupRef:
    root = hierarchies().get(UNIFIED)
    if root is None:
        raise UnsupportedError("no cgroup v2 is mounted", hint="mount -t cgroup2 none /sys/fs/cgroup/unified")
    return CgroupRef.at(root)


@capability("connect", lasting=True)
def CONNECT() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether connect(2) can be made to fail: cgroup hooks and bpf_set_retval (Linux 5.18)."""
    return in_scratch_netns(_must_be_refused)


def _must_be_refused(_: NetnsRef) -> None:
    members = Members(_v2(), entire=False, processes=(ProcessRef.of(os.getpid()),))
    here = Calls(("connect",), sockets=Filters(ports=((9, 9),), cidrs=("127.66.0.9",)))
    places = tuple(hooks.Hook("cgroup", program) for program in hooks.CGROUP["connect"])
    refusal = Injection(_RUN, _INDEX, members, here, places, Rule.chance(0, 1.0), errno.EXFULL)
    refusal.apply()
    before = bpf.lease().until
    try:
        refusal.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + 2)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as canary:
            answer = canary.connect_ex(("127.66.0.9", 9))
    finally:
        bpf.renew(before)
        refusal.revert()
    if answer != errno.EXFULL:
        raise UnsupportedError(f"a connection that had to fail with EXFULL got {errno.errorcode.get(answer)}")


@capability("reset", lasting=True)
def RESET() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether the kernel tears down connections of others: sock_diag's SOCK_DESTROY."""
    modprobe("tcp_diag")
    return in_scratch_netns(_must_break)


def _must_break(netns: NetnsRef) -> None:
    with rtnl(netns) as ip:
        ip.set_up(1)
    reset = Reset(_RUN, _INDEX, netns, None, Filters(), Rule.chance(0, 1.0))
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as canary,
    ):
        try:
            reset.apply()
        finally:
            reset.revert()
        answer = canary.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if answer != errno.ECONNABORTED:
        raise UnsupportedError(f"a connection that had to break got {errno.errorcode.get(answer)}", hint=MEND)


@capability("ifb", lasting=True)
def IFB() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether picked packets can be sent through a device of our own: ifb and mirred."""
    modprobe("ifb", "sch_ingress", "cls_bpf", "act_mirred")

    def attempt(netns: NetnsRef) -> None:
        gate = Gate(_RUN, _INDEX, netns, "queue", Filters(), Rule.chance(0, 1.0))
        try:
            Ifb(netns, _SCRATCH).apply()
            _hang(netns, gate, _SCRATCH)
        finally:
            gate.revert()

    return in_scratch_netns(attempt)


def _at_root(qdisc: Netem | Tbf) -> None:
    Ifb(qdisc.netns, _SCRATCH).apply()
    qdisc.apply()


@capability("netem", lasting=True)
def NETEM() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether the kernel has netem."""
    modprobe("ifb", "sch_netem")
    return in_scratch_netns(lambda netns: _at_root(Netem(netns, _SCRATCH, delay=0.001)))


@capability("tbf", lasting=True)
def TBF() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether the kernel has the token bucket filter."""
    modprobe("ifb", "sch_tbf")
    return in_scratch_netns(lambda netns: _at_root(Tbf(netns, _SCRATCH, 1e6, 10_000, 100_000)))
