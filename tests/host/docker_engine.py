"""A Docker Engine of the test's own: in its own mount and network namespace, gone without a trace.

It never sees the host's interfaces, iptables or /run: what it makes there is made in its own
namespaces, and ends with them. Its containers' cgroups are below one of a name of its own.
"""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from world import need, until

from chaosd.kernel import cgroup
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.netns import NetnsRef, inside

IMAGE = "busybox-test"
_serial = count()
_BUSYBOX = "/bin/busybox"
_NEW_NAMESPACES = 0x00020000 | 0x40000000  # CLONE_NEWNS | CLONE_NEWNET
_MS_REC_PRIVATE = 0x4000 | 0x40000
# what the engine would write to outside its data and exec roots; hidden below a tmpfs
_HIDDEN = ("/run", "/etc/docker", "/opt", "/etc/cni", "/var/lib/cni")


@capability("docker")
def DOCKER() -> Verdict:  # noqa: N802
    """Whether a Docker Engine can be started here."""
    for tool in ("dockerd", "containerd", "runc"):
        if shutil.which(tool) is None:
            return Verdict(ok=False, reason=f"no {tool}", mend="apt install docker.io")
    if not Path(_BUSYBOX).is_file():
        return Verdict(ok=False, reason=f"no {_BUSYBOX}", mend="apt install busybox-static")
    if find_spec("docker") is None:
        return Verdict(ok=False, reason="no docker package", mend="pip install docker")
    if os.geteuid() != 0:
        return Verdict(ok=False, reason="not root", mend="sudo")
    return Verdict(ok=True)


class Engine:
    """A running engine; ``url`` is what DOCKER_HOST should say."""

    def __init__(self, url: str, pid: int, parent: str) -> None:
        import docker

        self.url = url
        self.pid = pid
        self.cgroup_parent = parent
        self.client = docker.DockerClient(base_url=url, timeout=150)

    @property
    def netns(self) -> NetnsRef:
        """Where the engine's bridge is, and from where its containers are reached."""
        return NetnsRef.at(f"/proc/{self.pid}/ns/net")

    def run(self, name: str, *argv: str, **options: Any) -> Any:
        """A container that has been started; removed with the engine if not before."""
        options.setdefault("init", False)
        return self.client.containers.run(
            IMAGE, list(argv) or ["sleep", "3600"], name=name, detach=True, **options
        )


@contextmanager
def engine() -> Iterator[Engine]:
    """A Docker Engine with one image, ``IMAGE``: busybox, all its tools in /bin.

    Skips where the capability ``docker`` is missing. Nothing of it is left at the end: processes,
    mounts, namespaces, cgroups and files.
    """
    need(DOCKER)
    parent = f"/test-docker-{os.getpid()}-{next(_serial)}"
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, _clean(Path("/etc/docker")):
        try:
            with _daemon(Path(folder), parent) as found, closing(found.client):
                found.client.api.import_image_from_data(_image(), repository=IMAGE)
                yield found
        finally:
            _remove_cgroups(parent)


@contextmanager
def _clean(*places: Path) -> Iterator[None]:
    missing = [place for place in places if not place.exists()]
    try:
        yield
    finally:
        for place in missing:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _daemon(folder: Path, parent: str) -> Iterator[Engine]:
    log = folder / "log"
    url = f"unix://{folder}/engine.sock"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _arguments(folder, url, parent),
            stdout=output,
            stderr=output,
            preexec_fn=_own_world(),
            start_new_session=True,
        )
    namespace = _mount_namespace(process.pid)
    try:
        with inside(NetnsRef.at(f"/proc/{process.pid}/ns/net")), IPRoute() as ip:
            ip.link("set", index=1, state="up")
        until(lambda: _answers(process, folder / "engine.sock", log), "dockerd does not answer", 150)
        yield Engine(url, process.pid, parent)
    finally:
        _end(process, namespace)


def _arguments(folder: Path, url: str, parent: str) -> list[str]:
    (folder / "daemon.json").write_text("{}", "ascii")
    words = {
        "host": url,
        "config-file": folder / "daemon.json",
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "pid",
        "cgroup-parent": parent,
        "exec-opt": "native.cgroupdriver=cgroupfs",
        "storage-driver": "vfs",
        "iptables": "false",
        "ip-forward": "false",
        "ip-masq": "false",
        "userland-proxy": "false",
        "bip": "10.98.0.1/24",
        "shutdown-timeout": "1",
    }
    return ["dockerd", *(f"--{name}={value}" for name, value in words.items())]


def _own_world() -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        if libc.unshare(_NEW_NAMESPACES) != 0 or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) != 0:
            raise OSError(ctypes.get_errno(), "no namespaces of its own")
        for place in filter(os.path.isdir, _HIDDEN):
            if libc.mount(b"none", place.encode(), b"tmpfs", 0, None) != 0:
                raise OSError(ctypes.get_errno(), f"no tmpfs on {place}")

    return enter


def _answers(process: subprocess.Popen[bytes], path: Path, log: Path) -> bool:
    assert process.poll() is None, f"dockerd ended: {log.read_text(errors='replace')[-2000:]}"
    return path.exists()


def _end(process: subprocess.Popen[bytes], namespace: str) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # containerd and its shims outlive a daemon that was killed
    left = [pid for pid in _pids() if namespace and _mount_namespace(pid) == namespace]
    _kill(left)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _mount_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _remove_cgroups(parent: str) -> None:
    for point in cgroup.hierarchies().values():
        top = Path(f"{point}{parent}")
        _kill(cgroup.members(str(top)))
        until(lambda top=top: not cgroup.members(str(top)), f"{top} stays populated")
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        if top.exists():
            top.rmdir()


def _image() -> bytes:
    tools = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(os.path.realpath(_BUSYBOX), "bin/busybox")
        for tool in tools:
            link = tarfile.TarInfo(f"bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if tool != "busybox":
                tar.addfile(link)
        for name in ("tmp", "etc", "proc", "sys", "dev"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return packed.getvalue()
