"""A Docker or Podman of the test's own: in its own mount and network namespace, gone without a trace.

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
from chaosd.kernel.capability import Capability, Verdict, capability
from chaosd.kernel.netns import NetnsRef, inside

IMAGE = "busybox-test"
_serial = count()
_BUSYBOX = "/bin/busybox"
_NEW_NAMESPACES = 0x00020000 | 0x40000000  # CLONE_NEWNS | CLONE_NEWNET
_MS_REC_PRIVATE = 0x4000 | 0x40000
# what the engines would write to outside the folders they are given; hidden below a tmpfs
_HIDDEN = ("/run", "/dev/shm", "/etc/docker", "/etc/cni", "/opt", "/var/lib")
_PODMAN_SETTINGS = """
[engine]
events_logger = "file"
runtime = "runc"  # crun will have nothing to do with v1 and v2 side by side
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""


@capability("docker")
def DOCKER() -> Verdict:  # noqa: N802
    """Whether a Docker Engine can be started here."""
    return _installed("docker.io", "dockerd", "containerd", "runc")


@capability("podman")
def PODMAN() -> Verdict:  # noqa: N802
    """Whether a Podman can be started here."""
    return _installed("podman runc", "podman", "conmon", "runc")


def _installed(package: str, *tools: str) -> Verdict:
    for tool in tools:
        if shutil.which(tool) is None:
            return Verdict(ok=False, reason=f"no {tool}", mend=f"apt install {package}")
    if not Path(_BUSYBOX).is_file():
        return Verdict(ok=False, reason=f"no {_BUSYBOX}", mend="apt install busybox-static")
    if find_spec("docker") is None:
        return Verdict(ok=False, reason="no docker package", mend="pip install docker")
    if os.geteuid() != 0:
        return Verdict(ok=False, reason="not root", mend="sudo")
    return Verdict(ok=True)


class Engine:
    """A running engine of a ``kind``; ``url`` is what DOCKER_HOST should say."""

    def __init__(self, kind: Capability, url: str, pid: int, parent: str) -> None:
        import docker

        self.kind = kind
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
        if self.kind is PODMAN:  # which has no network of its own here
            options = {"network_mode": "none", "cgroup_parent": self.cgroup_parent} | options
        return self.client.containers.run(
            IMAGE, list(argv) or ["sleep", "3600"], name=name, detach=True, **options
        )


@contextmanager
def engine(kind: Capability = DOCKER) -> Iterator[Engine]:
    """An engine, ``DOCKER`` or ``PODMAN``, with one image, ``IMAGE``: busybox, all its tools in /bin.

    Skips where that capability is missing. Nothing of it is left at the end: processes, mounts,
    namespaces, cgroups and files.
    """
    need(kind)
    parent = f"/test-{kind.name}-{os.getpid()}-{next(_serial)}"
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, _clean(Path("/etc/docker")):
        try:
            with _daemon(kind, Path(folder), parent) as found, closing(found.client):
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
def _daemon(kind: Capability, folder: Path, parent: str) -> Iterator[Engine]:
    log = folder / "log"
    url = f"unix://{folder}/engine.sock"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _podman(folder, url) if kind is PODMAN else _dockerd(folder, url, parent),
            env=os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")},
            stdout=output,
            stderr=output,
            preexec_fn=_own_world(),
            start_new_session=True,
        )
    namespace = _mount_namespace(process.pid)
    try:
        with inside(NetnsRef.at(f"/proc/{process.pid}/ns/net")), IPRoute() as ip:
            ip.link("set", index=1, state="up")
        until(lambda: _answers(process, folder / "engine.sock", log), f"{kind.name} does not answer", 150)
        yield Engine(kind, url, process.pid, parent)
    finally:
        _end(process, namespace)


def _podman(folder: Path, url: str) -> list[str]:
    (folder / "containers.conf").write_text(_PODMAN_SETTINGS, "ascii")
    words = {
        "root": folder / "data",
        "runroot": folder / "run",
        "tmpdir": folder / "tmp",
        "storage-driver": "vfs",
        "cgroup-manager": "cgroupfs",
    }
    return [
        "podman",
        *(f"--{name}={value}" for name, value in words.items()),
        "system",
        "service",
        "-t0",
        url,
    ]


def _dockerd(folder: Path, url: str, parent: str) -> list[str]:
    (folder / "daemon.json").write_text("{}", "ascii")
    words = {
        "host": url,
        "config-file": folder / "daemon.json",
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "pid",
        "cgroup-parent": parent,
        "exec-opt": "native.cgroupdriver=cgroupfs",
        "storage-driver": _driver(folder),
        "iptables": "false",
        "ip-forward": "false",
        "ip-masq": "false",
        "userland-proxy": "false",
        "bip": "10.98.0.1/24",
        "shutdown-timeout": "1",
    }
    return ["dockerd", *(f"--{name}={value}" for name, value in words.items())]


def _driver(folder: Path) -> str:
    """Layers where the file system has room for them, else whole copies."""
    words = ["stat", "--file-system", "--format=%T", str(folder)]
    kind = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return "overlay2" if kind in ("ext2/ext3", "xfs") else "vfs"


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
    assert process.poll() is None, f"the engine ended: {log.read_text(errors='replace')[-2000:]}"
    return path.exists()


def _end(process: subprocess.Popen[bytes], namespace: str) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # containerd's shims outlive a daemon that was killed, and conmon any
    until(lambda: not _kill_all_of(namespace), "something of the engine runs on")


def _kill_all_of(namespace: str) -> list[int]:
    left = [pid for pid in _pids() if namespace and _mount_namespace(pid) == namespace]
    _kill(left)
    return left


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
