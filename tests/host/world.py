"""Throw-away worlds for tests: namespaces, wires, cgroups and processes that vanish afterwards."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from pyroute2 import IPRoute, NetlinkError

from chaosd.kernel.capability import Capability
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.netns import DeviceRef, NetnsRef, inside, setns

_CLONE_NEWNET = 0x40000000
_serial = count()


def need(*capabilities: Capability) -> None:
    """Skip with the kernel's reason, or fail when CHAOSD_REQUIRE names the capability."""
    for capability in capabilities:
        verdict = capability()
        if verdict.ok:
            continue
        said = f"{capability.name}: {verdict.reason}"
        if {*capability.name.split(" or ")} & {*os.environ.get("CHAOSD_REQUIRE", "").split(",")}:
            pytest.fail(f"required here, yet missing: {said}")
        pytest.skip(said)


@contextmanager
def netns() -> Iterator[NetnsRef]:
    """A network namespace of its own, its lo up, that dies with a child process."""
    ready, told = os.pipe()
    holder = os.fork()
    if holder == 0:
        _hold(told)
    try:
        os.close(told)
        assert os.read(ready, 1) == b"1", "could not make a network namespace"
        ref = NetnsRef.at(f"/proc/{holder}/ns/net")
        with inside(ref), IPRoute() as ip:
            ip.link("set", index=1, state="up")
        yield ref
    finally:
        os.close(ready)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


def _hold(told: int) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    os.write(told, b"1" if libc.unshare(_CLONE_NEWNET) == 0 else b"0")
    while True:
        signal.pause()


@contextmanager
def veth(left: NetnsRef, right: NetnsRef, net: int = 1) -> Iterator[tuple[DeviceRef, DeviceRef]]:
    """A wire between two namespaces: 10.99.NET.1/24 and fd99:NET::1/64 left, .2 and ::2 right."""
    name = f"w{os.getpid() % 10**6}x{next(_serial)}"
    peer = os.open(right.path, os.O_RDONLY)
    with inside(left), IPRoute() as ip:
        ip.link("add", kind="veth", ifname=f"{name}l", peer={"ifname": f"{name}r", "net_ns_fd": peer})
    os.close(peer)
    ends = (_address(left, f"{name}l", net, 1), _address(right, f"{name}r", net, 2))
    try:
        yield ends
    finally:
        with suppress(FileNotFoundError, NetlinkError), inside(left), IPRoute() as ip:
            ip.link("del", index=ends[0].ifindex)


def _address(ns: NetnsRef, name: str, net: int, number: int) -> DeviceRef:
    with inside(ns), IPRoute() as ip:
        index = socket.if_nametoindex(name)
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0", "ascii")
        ip.link("set", index=index, state="up")
        ip.addr("add", index=index, address=f"10.99.{net}.{number}", prefixlen=24)
        ip.addr("add", index=index, address=f"fd99:{net}::{number}", prefixlen=64)
    return DeviceRef(ns, index, name)


def cgroup_root() -> Path:
    """Where cgroup v2 is mounted."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        found = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    if not found:
        pytest.skip("no cgroup v2 mounted")
    return Path(found[0])


@contextmanager
def cgroup() -> Iterator[CgroupRef]:
    """A v2 cgroup of its own; whatever is left in it is killed at the end."""
    path = cgroup_root() / f"test-{os.getpid()}-{next(_serial)}"
    path.mkdir()
    try:
        yield CgroupRef.at(str(path))
    finally:
        for pid in (path / "cgroup.procs").read_text("ascii").split():
            os.kill(int(pid), signal.SIGKILL)
        until(lambda: not (path / "cgroup.procs").read_text("ascii"), "cgroup stays populated")
        path.rmdir()


@contextmanager
def spawn(
    argv: Sequence[str], *, ns: NetnsRef | None = None, cg: CgroupRef | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process, in a namespace and a cgroup if asked, with text pipes; it and its group are killed."""
    fd = os.open(ns.path, os.O_RDONLY) if ns else None

    def enter() -> None:
        if fd is not None:
            setns(fd)
        if cg is not None:
            Path(cg.path, "cgroup.procs").write_text(str(os.getpid()), "ascii")

    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        preexec_fn=enter,
        start_new_session=True,
    )
    if fd is not None:
        os.close(fd)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def python(code: str, *arguments: object) -> list[str]:
    """The argument list of a Python child that runs ``code``."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def until(holds: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until something holds; fail with ``what`` when it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
