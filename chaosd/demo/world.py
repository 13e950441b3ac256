"""Where the demo lives: two network namespaces joined by a veth pair, and a locked state file.

The caller's own namespace gets no device, address or route.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL, get_errno
from pathlib import Path
from typing import Any

from chaosd.demo import cgroups
from chaosd.demo.settings import Settings

BOOKING, DATABASE, PMS, NAMES, CLIENT = "10.66.0.1", "10.66.0.2", "10.66.0.3", "10.66.0.4", "10.66.0.100"
PMS_NAME = "pms.demo.internal"
SERVICES = ("names", "database", "pms", "booking")

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")


class DemoError(Exception):
    """The demo cannot start; one line says why."""


def netns_path(name: str) -> Path:
    """The file that stands for a named network namespace."""
    return Path("/run/netns", name)


def state_path(name: str) -> Path:
    """The file that says where a running demo is; its supervisor holds a lock on it."""
    return Path("/run", f"{name}.json")


def read_state(name: str) -> dict[str, Any]:
    """What a running demo wrote: pids, addresses, urls, namespaces.

    Raises:
        DemoError: there is no such demo.
    """
    try:
        state: dict[str, Any] = json.loads(state_path(name).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        raise DemoError(f"no demo {name!r} is running") from None
    return state


class Claim:
    """The right to the names of one demo, held through the lock on its state file.

    Raises:
        DemoError: a demo of this name runs, or a namespace of this name is somebody else's.
    """

    def __init__(self, settings: Settings) -> None:
        if not _NAME.match(settings.name):
            raise DemoError(f"{settings.name!r} is no name (lower-case letters, digits, hyphens)")
        self._settings = settings
        self._path = state_path(settings.name)
        self._fd = self._lock()
        names = [settings.name, settings.client_name]
        taken = [name for name in names if netns_path(name).exists()]
        # The file is written before a namespace is made and removed after the last one is gone:
        # a namespace without it was made by somebody else.
        if taken and not os.fstat(self._fd).st_size:
            self._path.unlink()
            raise DemoError(f"network namespace {taken[0]} is there already and is not a demo's")
        self.write({"supervisor": os.getpid()})
        self._remove()

    def _remove(self) -> None:
        remove_namespaces(self._settings)
        remove_folder(self._settings)
        for service in SERVICES:
            cgroups.remove(self._settings.cgroup(service))

    def _lock(self) -> int:
        if os.geteuid() != 0:
            raise DemoError("the demo makes network namespaces and must be started as root")
        if not shutil.which("ip"):
            raise DemoError("there is no ip command (package iproute2)")
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise DemoError(f"demo {self._settings.name!r} is running already") from None
            if self._path.exists() and self._path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
            os.close(fd)  # the demo before unlinked it in between

    def write(self, state: dict[str, Any]) -> None:
        """Replace what the state file says."""
        data = json.dumps(state).encode()
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def release(self) -> None:
        """Remove the namespaces, the files and the cgroups."""
        self._remove()
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def make_namespaces(settings: Settings) -> None:
    """Make both namespaces with their addresses; raises ``DemoError`` with what ``ip`` said."""
    _ip([], "netns add " + settings.name, "netns add " + settings.client_name)
    _ip(
        ["-n", settings.name],
        f"link add eth0 type veth peer name eth0 netns {settings.client_name}",
        *(f"addr add {address}/24 dev eth0" for address in (BOOKING, DATABASE, PMS, NAMES)),
        "link set lo up",
        "link set eth0 up",
    )
    _ip(["-n", settings.client_name], f"addr add {CLIENT}/24 dev eth0", "link set lo up", "link set eth0 up")


def remove_namespaces(settings: Settings) -> None:
    """Remove both namespaces, those that are there; the veth pair goes with them."""
    there = [name for name in (settings.name, settings.client_name) if netns_path(name).exists()]
    if there:
        _ip([], *(f"netns delete {name}" for name in there))


def make_folder(settings: Settings) -> None:
    """Make the folder for the services' files, readable by root alone."""
    Path(settings.folder).mkdir(mode=0o700)


def remove_folder(settings: Settings) -> None:
    """Remove the folder with what is in it."""
    shutil.rmtree(settings.folder, ignore_errors=True)


def _ip(options: list[str], *commands: str) -> None:
    done = subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"ip: {done.stderr.strip().splitlines()[0]}")


def enter(name: str) -> None:
    """Move the calling thread, and threads it starts later, into a named network namespace.

    Raises:
        DemoError: there is none of this name.
    """
    try:
        fd = os.open(netns_path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DemoError(f"no network namespace {name!r}") from None
    _setns(fd)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Run the calling thread in a named network namespace for a while."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
    except DemoError:
        os.close(home)
        raise
    try:
        yield
    finally:
        _setns(home)


def _setns(fd: int) -> None:
    try:
        if CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
            raise DemoError(f"setns: {os.strerror(get_errno())}")
    finally:
        os.close(fd)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise DemoError("the supervisor is gone")


def call_myself(name: str) -> None:
    """Set the command name that ``ps -o comm`` shows, 15 bytes at most."""
    CDLL(None).prctl(_PR_SET_NAME, name.encode())
