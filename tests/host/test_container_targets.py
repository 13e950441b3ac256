"""Containers as targets, of a real Docker Engine and of a real Podman."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import world
from container_engine import DOCKER, IMAGE, PODMAN, Engine, engine
from injecting import injected
from world import until

from chaosd.errors import ChaosdError, Exit, TargetLostError, UnsupportedError
from chaosd.faults._cgroup import CpuShare
from chaosd.faults.cpu_throttle import CpuThrottle
from chaosd.faults.pids_limit import PidsLimit
from chaosd.faults.process_pause import ProcessPause
from chaosd.faults.syscall_error import SyscallError
from chaosd.kernel import cgroup, containers
from chaosd.kernel.capability import Capability
from chaosd.kernel.edit import Hit
from chaosd.kernel.tracing import PTRACE
from chaosd.targets.model import Target
from chaosd.targets.protect import protect, radius
from chaosd.targets.resolve import resolve

pytestmark = pytest.mark.timeout(300)

Start = Callable[..., Any]


@pytest.fixture(scope="module", params=[DOCKER, PODMAN], ids=["docker", "podman"])
def running(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(request.param) as found:
        yield found


@pytest.fixture
def start(running: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts containers that are removed afterwards, of the engine that DOCKER_HOST names."""
    monkeypatch.setenv("DOCKER_HOST", running.url)
    made: list[Any] = []

    def begin(name: str, *argv: str, **options: Any) -> Any:
        made.append(running.run(name, *argv, **options))
        made[-1].reload()
        return made[-1]

    yield begin
    for container in reversed(made):
        container.remove(force=True)


def pid_of(container: Any) -> int:
    container.reload()
    return int(container.attrs["State"]["Pid"])


def refused(word: str) -> ChaosdError:
    with pytest.raises(ChaosdError) as error:
        resolve(word)
    assert error.value.message.isprintable()
    return error.value


def lost(target: Target) -> str:
    with pytest.raises(TargetLostError) as error:
        target.check_alive()
    return str(error.value)


def test_a_container_by_name_and_by_id(start: Start) -> None:
    """Its first process leads; the cgroups and the namespace are its own."""
    container = start("api", "sh", "-c", "sleep 3600 & wait")
    for word in ("api", container.id, container.short_id):
        target = resolve(f"container:{word}")
        assert target.processes[0].pid == pid_of(container)
        assert len(target.processes) == 2
        assert target.manager == f"container:{container.id}"
        assert target.netns is not None
        assert target.netns.inode == os.stat(f"/proc/{pid_of(container)}/ns/net").st_ino
        assert target.own_netns
        assert radius(target) == "single-service"
        protect(target)
        target.check_alive()


def test_every_hierarchy_has_the_containers_cgroup(start: Start) -> None:
    """Wherever its first process is in a cgroup of the container's id, that one is the target's."""
    container = start("api")
    target = resolve("container:api")
    places = {key: path for key, path in cgroup.of_process(pid_of(container)).items() if container.id in path}
    assert places
    assert {key: ref.path for key, ref in target.cgroups.items()} == places
    assert all(os.stat(ref.path).st_ino == ref.inode for ref in target.cgroups.values())


def test_what_is_executed_later_belongs_to_it(start: Start) -> None:
    """A process that the engine puts in later is in the cgroup, though not of the first one's tree."""
    container = start("api")
    container.exec_run(["sleep", "3600"], detach=True)
    until(lambda: len(resolve("container:api").processes) == 2, "the second process is not seen")
    assert resolve("container:api").own_netns


def test_by_pid_it_is_the_same(start: Start) -> None:
    """The pid of a container's first process leads to the same cgroups, and tells who manages them."""
    container = start("api")
    target = resolve(f"pid:{pid_of(container)}")
    assert target.cgroups == resolve("container:api").cgroups
    assert target.manager == f"container:{container.id}"
    assert target.own_netns


def test_a_namespace_of_two_containers_is_neither_ones(start: Start) -> None:
    """A side car sees the other's packets: faults must then tell them apart by cgroup."""
    start("api")
    start("sidecar", network_mode="container:api")
    assert not resolve("container:api").own_netns
    assert not resolve("container:sidecar").own_netns


def test_its_interface_can_be_named(running: Engine, start: Start) -> None:
    """``dev:eth0@container:api`` is the interface inside, gone with the container."""
    if running.kind is PODMAN:
        pytest.skip("the Podman of the tests has no network")
    container = start("api")
    target = resolve("dev:eth0@container:api")
    assert target.device is not None
    link = ["nsenter", "-n", "-t", str(pid_of(container)), "ip", "-oneline", "link", "show", "eth0"]
    told = subprocess.run(link, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"{target.device.ifindex}: eth0")
    assert target.device.netns.inode == os.stat(f"/proc/{pid_of(container)}/ns/net").st_ino
    assert "there is no interface 'eth7'" in str(refused("dev:eth7@container:api"))
    container.kill()
    until(lambda: pid_of(container) == 0, "it runs on")
    until(lambda: target.netns is None or not target.netns.alive(), "its namespace stays")
    assert "is gone" in lost(target)


def test_faults_strike_one_container_and_are_lifted(start: Start) -> None:
    """Paused, throttled and limited, while the one beside it works on; then it does again."""
    burn = ("sh", "-c", "while :; do :; done")
    api, other = pid_of(start("api", *burn)), pid_of(start("other", *burn))
    target = resolve("container:api")
    assert work(api) > 0.05
    with injected(ProcessPause(), target):
        assert work(api) == 0
        assert work(other) > 0.05
    with injected(CpuThrottle(percent=CpuShare(10)), target):
        work(api)  # a period that had begun before ends first
        assert 0 < work(api) < 0.15
    assert work(api) > 0.05
    limits = [path for ref in target.cgroups.values() if (path := Path(ref.path, "pids.max")).exists()]
    before = [path.read_text("ascii") for path in limits]
    with injected(PidsLimit(limit=5), target):
        assert [path.read_text("ascii") for path in limits] == ["5\n"]
    assert [path.read_text("ascii") for path in limits] == before


def test_a_path_is_the_containers_own(start: Start) -> None:
    """A file of the container's root is met by the path that it has in there."""
    world.need(PTRACE)
    loop = "echo words >/words; echo others >/others; while :; do cat /words /others; sleep 0.1; done"
    api, other = start("api", "sh", "-c", loop), start("other", "sh", "-c", loop)
    fault = SyscallError(syscalls=["files.read"], errno="EIO", path="/words")
    with injected(fault, resolve("container:api")) as run:
        world.until(lambda: b"Input/output error" in api.logs(), api.logs())
        found: list[Hit] = []
        world.until(lambda: found.extend(run.hits()) or found, "no hit was told")
        assert {(hit.comm, hit.detail) for hit in found} == {("cat", "/words")}
    assert b"others" in api.logs()
    assert b"error" not in other.logs()


def work(pid: int, seconds: float = 0.5) -> float:
    """The share of a CPU that a process takes for a while."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def test_a_restart_makes_another_target(start: Start) -> None:
    """The same name, and yet other cgroups, another namespace and another first process."""
    container = start("api")
    target = resolve("container:api")
    container.restart(timeout=0)
    assert "container:api is gone" in lost(target)
    again = resolve("container:api")
    again.check_alive()
    assert again.processes[0] != target.processes[0]
    assert all(again.cgroups[key].inode != ref.inode for key, ref in target.cgroups.items())
    assert again.netns != target.netns


def test_the_end_of_the_first_process_is_the_end(start: Start) -> None:
    """Killed from outside, without a word to the engine, it is lost at once."""
    container = start("api")
    target = resolve("container:api")
    os.kill(pid_of(container), 9)
    until(lambda: not target.processes[0].alive(), "it is not dead")
    assert "is gone" in lost(target)


def test_a_paused_container_is_alive(start: Start) -> None:
    """Pausing freezes the processes; the target is there still."""
    container = start("api")
    container.pause()
    target = resolve("container:api")
    target.check_alive()
    container.unpause()
    target.check_alive()


def test_watching_asks_no_engine(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the engine out of reach a container is watched all the same."""
    start("api")
    target = resolve("container:api")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    target.check_alive()
    said = refused("container:api")
    assert isinstance(said, UnsupportedError)
    assert "engine at unix:///nonexistent.sock does not answer" in str(said)


def test_a_stopped_container_is_refused(running: Engine, start: Start) -> None:
    """With its state, and the command that starts it."""
    container = start("api")
    container.kill()
    until(lambda: pid_of(container) == 0, "it runs on")
    assert str(refused("container:api")) == (
        f"container api is not running: exited ({running.kind.name} start api)"
    )


def test_an_absent_container_is_refused(start: Start) -> None:
    """With the names that are near, or those there are."""
    start("booking-api")
    assert "there is no container 'bookin-api' (did you mean container:booking-api?)" in str(
        refused("container:bookin-api")
    )
    assert "there are booking-api" in str(refused("container:zzz"))


def test_the_beginning_of_two_ids_is_refused(running: Engine, start: Start) -> None:
    """One digit of an id cannot tell two containers apart that begin with it."""
    made = []
    try:
        while len({one[0] for one in made}) == len(made):
            made.append(running.client.api.create_container(IMAGE, ["sleep", "1"])["Id"])
        said = refused(f"container:{made[-1][0]}")
        assert said.exit is Exit.REFUSED
        assert "give the full name or id" in str(said)
    finally:
        for ident in made:
            running.client.api.remove_container(ident, force=True)


def test_the_sockets_are_looked_for(running: Engine, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DOCKER_HOST both usual places are asked; one engine behind both is no ambiguity."""
    start("api")
    monkeypatch.delenv("DOCKER_HOST")
    socket = running.url.removeprefix("unix://")
    monkeypatch.setattr(containers, "SOCKETS", ("/nonexistent.sock", socket))
    assert resolve("container:api").spec == "container:api"
    monkeypatch.setattr(containers, "SOCKETS", (socket, socket))
    assert resolve("container:api").spec == "container:api"
    monkeypatch.setattr(containers, "SOCKETS", ("/nonexistent.sock",))
    said = refused("container:api")
    assert isinstance(said, UnsupportedError)
    assert "no container engine is running: no /nonexistent.sock" in str(said)


def test_two_engines_of_one_name_are_ambiguous(
    running: Engine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Docker and a Podman that both have it must be told apart by the user."""
    start("api")
    monkeypatch.delenv("DOCKER_HOST")
    with engine(DOCKER if running.kind is PODMAN else PODMAN) as other:
        other.run("api")
        sockets = tuple(one.url.removeprefix("unix://") for one in (running, other))
        monkeypatch.setattr(containers, "SOCKETS", sockets)
        assert "Docker and Podman both have a container 'api' (set DOCKER_HOST)" in str(
            refused("container:api")
        )


def test_a_container_of_another_host_is_refused(start: Start) -> None:
    """A pid is believed only if it is in a cgroup of the container's id here as well."""
    container = start("api")
    code = (
        "from chaosd.errors import ChaosdError; from chaosd.targets.resolve import resolve\n"
        "try: resolve('container:api')\n"
        "except ChaosdError as error: print(error)"
    )
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert f"container api does not run on this host: pid {pid_of(container)} here" in said


def test_the_package_may_be_missing() -> None:
    """Without it the refusal says what to install; nothing else needs it."""
    code = (
        "import sys; sys.modules['docker'] = None\n"
        "from chaosd.errors import UnsupportedError; from chaosd.targets.resolve import resolve\n"
        "try: resolve('container:api')\n"
        "except UnsupportedError as error: print(error)"
    )
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent.sock"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "container: needs the docker package (pip install 'chaosd[docker]')\n"


def test_the_cgroup_of_all_containers_is_a_cluster(running: Engine, start: Start) -> None:
    """The parent of two containers reaches both; Podman's holds its monitors as well, and is protected."""
    made = {pid_of(start("api")), pid_of(start("db"))}
    target = resolve(f"cgroup:{running.cgroup_parent}")
    assert made <= {process.pid for process in target.processes}
    assert radius(target) == "service-cluster"
    if running.kind is DOCKER:
        assert len(target.processes) == 2
        protect(target)
    else:
        with pytest.raises(ChaosdError, match=r"it holds pid .* the container engine"):
            protect(target)


@pytest.mark.parametrize("kind", [DOCKER, PODMAN], ids=["docker", "podman"])
def test_the_engine_leaves_no_trace(kind: Capability) -> None:
    """Processes, mounts, cgroups, interfaces and files are as before."""
    before = _traces()
    with engine(kind) as running:
        running.run("api")
        places = [Path(f"{point}{running.cgroup_parent}") for point in cgroup.hierarchies().values()]
        assert any(place.is_dir() for place in places)
        # held, for the number of one that is gone is given to the next
        held = os.open(f"/proc/{running.pid}/ns/mnt", os.O_RDONLY)
        namespace = os.readlink(f"/proc/self/fd/{held}")
        assert _in_mount_namespace(namespace)
        assert _traces()["bridges"] == before["bridges"]
        folder = Path(running.url.removeprefix("unix://")).parent
    assert not [place for place in places if place.exists()]
    assert not _in_mount_namespace(namespace)
    os.close(held)
    assert not folder.exists()
    assert _traces() == before


def _in_mount_namespace(name: str) -> list[int]:
    pids = (int(word) for word in os.listdir("/proc") if word.isdigit())
    return [pid for pid in pids if _link(f"/proc/{pid}/ns/mnt") == name]


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _traces() -> dict[str, object]:
    return {
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/engine-" in line],
        "made": sorted(
            f"{folder}/{name}"
            for folder in ("/run", "/dev/shm", "/var/lib", "/var/tmp")
            for name in os.listdir(folder)
            if name.startswith(
                ("docker", "containerd", "containers", "libpod", "podman", "cni", "crun", "runc")
            )
        ),
        "bridges": sorted(
            name for name in os.listdir("/sys/class/net") if name.startswith(("docker", "cni", "podman"))
        ),
        "files": [name for name in ("/etc/docker", "/etc/cni", "/opt/containerd") if Path(name).exists()],
        "cgroups": [
            name
            for point in cgroup.hierarchies().values()
            for name in os.listdir(point)
            if "libpod" in name or name == "machine.slice"
        ],
    }
