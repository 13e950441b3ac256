"""What this kernel can do to traffic, tried in a scratch namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL, get_errno
from threading import Thread

from chaosd.errors import ChaosdError
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.gate import Gate
from chaosd.kernel.match import Filters, Rule
from chaosd.kernel.netem import Netem, Tbf
from chaosd.kernel.netns import DeviceRef, NetnsRef
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


@capability("gate")
def GATE() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether packets can be picked on an interface: libbpf, eBPF, clsact and cls_bpf."""
    modprobe("sch_ingress", "cls_bpf", "act_mirred")
    return in_scratch_netns(lambda netns: _hang(netns, ""))


def _hang(netns: NetnsRef, redirect: str) -> None:
    device = DeviceRef(netns, 1, "lo")
    rule = Rule.chance(0, 1.0)
    gate = Gate(_RUN, _INDEX, netns, "queue" if redirect else "drop", Filters(), rule)
    try:
        Clsact(device).apply()
        gate.apply()
        Hook(device, gate.slot, _RUN, gate.rank, "chaosd_loop_out", redirect).apply()
    finally:
        gate.revert()


@capability("ifb")
def IFB() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether picked packets can be sent through a device of our own: ifb and mirred."""
    modprobe("ifb", "sch_ingress", "cls_bpf", "act_mirred")

    def attempt(netns: NetnsRef) -> None:
        Ifb(netns, _SCRATCH).apply()
        _hang(netns, _SCRATCH)

    return in_scratch_netns(attempt)


def _at_root(qdisc: Netem | Tbf) -> None:
    Ifb(qdisc.netns, _SCRATCH).apply()
    qdisc.apply()


@capability("netem")
def NETEM() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether the kernel has netem."""
    modprobe("ifb", "sch_netem")
    return in_scratch_netns(lambda netns: _at_root(Netem(netns, _SCRATCH, delay=0.001)))


@capability("tbf")
def TBF() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether the kernel has the token bucket filter."""
    modprobe("ifb", "sch_tbf")
    return in_scratch_netns(lambda netns: _at_root(Tbf(netns, _SCRATCH, 1e6, 10_000, 100_000)))
