"""Targets made of real processes, cgroups, namespaces and interfaces."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
from pyroute2 import IPRoute
from world import cgroup, netns, python, spawn, until, veth

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.kernel import cgroup as kernel_cgroup
from chaosd.kernel.netns import NetnsRef, inside
from chaosd.kernel.process import ProcessRef
from chaosd.targets.model import Target
from chaosd.targets.processes import see, snapshot
from chaosd.targets.protect import radius
from chaosd.targets.resolve import resolve

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SLEEP = ["sleep", "600"]
FAMILY = """
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-c",
    "import subprocess; subprocess.Popen(['sleep', '600']); print('up', flush=True); input()"],
    stdin=subprocess.PIPE) for _ in range(2)]
input()
"""


def refused(word: str) -> str:
    with pytest.raises(ChaosdError) as error:
        resolve(word)
    return str(error.value)


def lost(target: Target) -> str:
    with pytest.raises(TargetLostError) as error:
        target.check_alive()
    return str(error.value)


@contextmanager
def v1_cgroup(*controllers: str) -> Iterator[str]:
    """A v1 cgroup of one name in these hierarchies; skips where one is not mounted."""
    mounts = kernel_cgroup.hierarchies()
    if missing := [key for key in controllers if key not in mounts]:
        pytest.skip(f"no cgroup v1 {missing[0]}")
    name = f"targets-{os.getpid()}"
    places = [Path(mounts[key], name) for key in controllers]
    for place in places:
        place.mkdir()
    try:
        yield name
    finally:
        for place in places:
            until(lambda place=place: not kernel_cgroup.members(str(place)), f"{place} stays populated")
            place.rmdir()


def copy_of_sleep(folder: Path, name: str) -> str:
    return shutil.copy("/bin/sleep", folder / name)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def test_a_look_at_the_host_has_every_process_and_no_kernel_thread() -> None:
    """Whichever way they are told apart: the stat of each says what it is."""

    def processes() -> set[ProcessRef]:
        found = (see(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return {seen.ref for seen in found if seen and not seen.dead and not seen.kernel_thread}

    before = processes()
    looked = snapshot()
    assert before & processes() <= {seen.ref for seen in looked.values()}
    assert not any(seen.dead or seen.kernel_thread for seen in looked.values())


def test_a_pid_brings_its_children() -> None:
    """The leader first, then everything it begot; its namespace is ours and not its own."""
    with spawn(python(FAMILY)) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]
        target = resolve(f"pid:{parent.pid}")
        assert target.processes[0] == ProcessRef.of(parent.pid)
        assert len(target.processes) == 5
        assert target.netns is not None
        assert target.netns.inode == NetnsRef.own().inode
        assert not target.own_netns
        assert not target.cgroups
        assert radius(target) == "single-service"
        target.check_alive()
        end(parent)
        assert f"pid {parent.pid} has ended" in lost(target)


def test_the_dead_are_no_targets() -> None:
    """A zombie is refused, and so is the pid of nothing."""
    with spawn(SLEEP) as process:
        target = resolve(f"pid:{process.pid}")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert f"pid {process.pid} (sleep) is a zombie" in refused(f"pid:{process.pid}")
        lost(target)
        process.wait()
        assert f"there is no process {process.pid}" in refused(f"pid:{process.pid}")


def test_kernel_threads_and_threads_are_no_targets() -> None:
    """Neither can be faulted as a process; for a thread the refusal names its process."""
    assert "pid 2 (kthreadd) is a kernel thread" in refused("pid:2")
    code = "import threading; t = threading.Thread(target=input); t.start(); print(t.native_id, flush=True)"
    with spawn(python(code)) as process:
        assert process.stdout is not None
        thread = int(process.stdout.readline())
        assert f"{thread} is a thread of process {process.pid} (pid:{process.pid})" in refused(
            f"pid:{thread}"
        )


def test_a_pid_used_again_is_another_target() -> None:
    """The kernel is made to give the same pid again, and the target is lost all the same."""
    with spawn(SLEEP) as first:
        target = resolve(f"pid:{first.pid}")
        end(first)
        time.sleep(0.03)  # more than a clock tick, in which start times are counted
        with same_pid(first.pid):
            assert resolve(f"pid:{first.pid}").processes[0] != target.processes[0]
            assert f"pid {first.pid} has ended" in lost(target)


@contextmanager
def same_pid(pid: int) -> Iterator[None]:
    """A process with the pid that was asked for: clone3(2) with set_tid, on x86-64 and arm64."""

    wanted = ctypes.c_int(pid)
    # struct clone_args: the fifth is exit_signal, the last two are set_tid and its length
    asked = (ctypes.c_uint64 * 10)(0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1)
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(435, ctypes.byref(asked), ctypes.sizeof(asked))
    if got == 0:
        signal.pause()
        os._exit(0)
    assert got == pid, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_comm_lives_while_one_is_left(tmp_path: Path) -> None:
    """Every process of the name; the target is lost with the last of them and not before."""
    tool = copy_of_sleep(tmp_path, "targetlong-name-of-a-program")
    with spawn([tool, "600"]) as one, spawn([tool, "600"]) as two, spawn(SLEEP):
        target = resolve("comm:targetlong-name-of-a-program")
        assert [ref.pid for ref in target.processes] == [one.pid, two.pid]
        assert resolve("comm:targetlong-name").processes == target.processes
        assert radius(target) == "service-cluster"
        end(one)
        target.check_alive()
        assert radius(resolve("comm:targetlong-name")) == "single-service"
        end(two)
        assert "none of its processes is left" in lost(target)
        assert "no process is called 'targetlong-name" in refused("comm:targetlong-name-of-a-program")


def test_comm_names_near_names(tmp_path: Path) -> None:
    """A slip of the pen is answered with the names there are; chaosd's own are never among them."""
    with spawn([copy_of_sleep(tmp_path, "quxservice"), "600"]):
        assert "did you mean comm:quxservice?" in refused("comm:quxservce")
    with spawn([copy_of_sleep(tmp_path, "chaosd-relay"), "600"]):
        assert "no process is called 'chaosd-relay'" in refused("comm:chaosd-relay")


def test_a_cgroup_by_every_way_to_write_it() -> None:
    """The path from the root of the hierarchy, with and without its slash, and the whole path."""
    with cgroup() as group, spawn(SLEEP, cg=group) as process:
        name = os.path.basename(group.path)
        for word in (name, f"/{name}", group.path, f"{group.path}/"):
            target = resolve(f"cgroup:{word}")
            assert target.cgroups == {"": group}
            assert [ref.pid for ref in target.processes] == [process.pid]
            assert radius(target) == "single-service"
        assert f"did you mean cgroup:/{name}" in refused(f"cgroup:{name}x")


def test_a_cgroup_lives_by_its_directory() -> None:
    """It may be empty; removed it is lost, and made again it is another."""
    with cgroup() as group:
        target = resolve(f"cgroup:{group.path}")
        target.check_alive()
        with pytest.raises(ChaosdError, match="has no processes"):
            target.require_processes()
        os.rmdir(group.path)
        assert f"cgroup {group.path} was removed" in lost(target)
        os.mkdir(group.path)
        lost(target)


def test_a_cgroup_v1_in_every_hierarchy() -> None:
    """One path in two hierarchies is one target; a whole path means one hierarchy."""
    mounts = kernel_cgroup.hierarchies()
    with v1_cgroup("memory", "freezer") as name, spawn(SLEEP) as one, spawn(SLEEP) as two:
        for key, process in (("memory", one), ("freezer", two)):
            Path(mounts[key], name, "cgroup.procs").write_text(str(process.pid), "ascii")
        target = resolve(f"cgroup:{name}")
        assert set(target.cgroups) == {"memory", "freezer"}
        assert {ref.pid for ref in target.processes} == {one.pid, two.pid}
        whole = resolve(f"cgroup:{mounts['freezer']}/{name}")
        assert set(whole.cgroups) == {"freezer"}
        assert [ref.pid for ref in whole.processes] == [two.pid]
        end(one)
        end(two)


def test_a_slice_is_a_cluster() -> None:
    """A cgroup whose processes are in several cgroups below it holds several services."""
    with cgroup() as group, spawn(SLEEP) as one, spawn(SLEEP) as two:
        for name, process in (("a", one), ("b", two)):
            folder = Path(group.path, name)
            folder.mkdir()
            (folder / "cgroup.procs").write_text(str(process.pid), "ascii")
        target = resolve(f"cgroup:{group.path}")
        assert {ref.pid for ref in target.processes} == {one.pid, two.pid}
        assert radius(target) == "service-cluster"
        for name, process in (("a", one), ("b", two)):
            end(process)
            Path(group.path, name).rmdir()


def test_a_pid_owns_its_cgroup_only_alone() -> None:
    """The cgroup is the target's while nobody else is in it, and all of the target is."""
    with cgroup() as group, spawn(SLEEP, cg=group) as process:
        assert resolve(f"pid:{process.pid}").cgroups == {"": group}
        with spawn(SLEEP, cg=group):
            assert resolve(f"pid:{process.pid}").cgroups == {}


def test_a_namespace_belongs_to_a_tree_that_is_alone_in_it() -> None:
    """A second tree in the namespace makes it shared, whichever of the two is asked."""
    with netns() as ns, spawn(SLEEP, ns=ns) as process:
        target = resolve(f"pid:{process.pid}")
        assert target.netns is not None
        assert target.netns.inode == ns.inode
        assert not target.own_netns, "the process that holds the namespace is a stranger"
    with spawn(["unshare", "--net", "sleep", "600"]) as alone:
        until(lambda: resolve(f"pid:{alone.pid}").own_netns, "a namespace of its own")
        target = resolve(f"pid:{alone.pid}")
        assert target.netns is not None
        assert target.netns.cookie > 0
        target.check_alive()
        with spawn(SLEEP, ns=target.netns):
            assert not resolve(f"pid:{alone.pid}").own_netns


def test_comm_in_several_namespaces_has_none(tmp_path: Path) -> None:
    """No one namespace holds the traffic of processes that are in two."""
    tool = copy_of_sleep(tmp_path, "twonets")
    with netns() as ns, spawn([tool, "600"], ns=ns), spawn([tool, "600"]):
        assert resolve("comm:twonets").netns is None
        assert "several network namespaces" in refused("dev:lo@comm:twonets")


@contextmanager
def named(name: str) -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def test_a_namespace_by_name_path_and_pid() -> None:
    """All three mean the same; it holds every process in it, and needs none."""
    name = f"tg{os.getpid()}"
    with named(name) as path:
        assert not resolve(f"netns:{name}").processes
        ns = NetnsRef.at(path)
        with spawn(SLEEP, ns=ns) as process:
            for word in (name, path, str(process.pid)):
                target = resolve(f"netns:{word}")
                assert target.netns is not None
                assert target.netns.inode == ns.inode
                assert target.own_netns
                assert [ref.pid for ref in target.processes] == [process.pid]
                assert radius(target) == "single-service"
        assert name in refused(f"netns:{name}x")


def test_a_namespace_made_again_is_another() -> None:
    """The kernel gives the next namespace the same inode; the cookie tells the two apart."""
    name = f"tg{os.getpid()}"
    with named(name) as path:
        target, device = resolve(f"netns:{name}"), resolve(f"dev:lo@{name}")
        target.check_alive()
        device.check_alive()
        subprocess.run(["ip", "netns", "del", name], check=True)
        until(lambda: target.netns is None or not target.netns.alive(), "the namespace stays")
        assert "network namespace" in lost(target)
        for _ in range(20):
            subprocess.run(["ip", "netns", "add", name], check=True)
            assert "was removed" in lost(target)
            assert "was removed" in lost(device)
            if target.netns is not None and NetnsRef.at(path).inode == target.netns.inode:
                return
            subprocess.run(["ip", "netns", "del", name], check=True)
        pytest.skip("the kernel did not use the inode again")


def test_an_interface_by_every_way_to_write_it() -> None:
    """Of another namespace by pid, path and word; near names where there is none."""
    with (
        netns() as left,
        netns() as right,
        veth(left, right, net=77) as (here, _),
        spawn(SLEEP, ns=left) as p,
    ):
        for where in (str(p.pid), left.path, f"pid:{p.pid}", f"netns:{p.pid}"):
            target = resolve(f"dev:{here.name}@{where}")
            assert target.device is not None
            assert target.device.ifindex == here.ifindex
            assert target.netns is not None
            assert target.netns.inode == left.inode
            assert not target.own_netns
            assert radius(target) == "single-service"
        assert f"did you mean dev:{here.name}?" in refused(f"dev:{here.name}x@{p.pid}")
        assert f"there is no interface '{here.name}'" in refused(f"dev:{here.name}")


def test_an_interface_that_goes_is_lost() -> None:
    """Deleted, and then made again by its name, it is not the one that was held."""
    with netns() as ns, spawn(SLEEP, ns=ns) as process, inside(ns), IPRoute() as ip:
        ip.link("add", ifname="tgdummy", kind="veth", peer="tgpeer")
        target = resolve(f"dev:tgdummy@{process.pid}")
        target.check_alive()
        ip.link("del", ifname="tgdummy")
        assert "no interface tgdummy" in lost(target)
        ip.link("add", ifname="tgdummy", kind="veth", peer="tgpeer")
        assert "no interface tgdummy" in lost(target)


def test_watching_is_cheap() -> None:
    """A look at each kind of target takes far less than the half second between two."""
    bound = 1.5 if "CHAOSD_GUEST" in os.environ else 0.5  # everything is slower where it is emulated
    with ExitStack() as stack:
        group, ns = stack.enter_context(cgroup()), stack.enter_context(netns())
        process = stack.enter_context(spawn(SLEEP, ns=ns, cg=group))
        words = (
            f"pid:{process.pid}",
            f"cgroup:{group.path}",
            f"netns:{process.pid}",
            f"dev:lo@{process.pid}",
        )
        for target in map(resolve, words):
            begun = time.process_time()
            for _ in range(100):
                target.check_alive()
            assert time.process_time() - begun < bound, f"{target.spec}: over {bound * 10:g} ms a look"


def test_a_target_survives_the_journal() -> None:
    """Written as JSON and read by another process, it is still the same one."""
    with netns() as ns, spawn(SLEEP, ns=ns) as process:
        target = resolve(f"pid:{process.pid}")
        again = msgspec.json.decode(msgspec.json.encode(target), type=Target)
        assert again == target
        code = (
            "import sys, msgspec; from chaosd.targets.model import Target;"
            "msgspec.json.decode(sys.argv[1], type=Target).check_alive()"
        )
        subprocess.run([sys.executable, "-c", code, msgspec.json.encode(target).decode()], check=True)
