"""What no fault may touch, with real processes in the roles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from world import cgroup, netns, python, spawn, until, veth

from chaosd.errors import ChaosdError, Exit
from chaosd.kernel import cgroup as kernel_cgroup
from chaosd.targets.model import Target
from chaosd.targets.processes import ancestors, snapshot, tree
from chaosd.targets.protect import operator_addresses, protect, radius
from chaosd.targets.resolve import resolve

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SLEEP = ["sleep", "600"]
# a process of another name, with a connection, in whose child the question is asked
SSHD = """
import ctypes, os, socket, subprocess, sys
ctypes.CDLL(None).prctl(15, b"sshd", 0, 0, 0)
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
server = socket.create_server((sys.argv[1], 22), family=family, dualstack_ipv6=sys.argv[1] == "::")
print("listening", flush=True)
connection, _ = server.accept()
ask = "from chaosd.targets.protect import operator_addresses; print(*operator_addresses())"
subprocess.run([sys.executable, "-c", ask], env={}, check=True)
"""
CLIENT = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 22))
input()
"""


def refused(target: Target) -> str:
    with pytest.raises(ChaosdError) as error:
        protect(target)
    assert error.value.exit is Exit.REFUSED
    assert error.value.message.isprintable()
    return str(error.value)


def copy_of_sleep(folder: Path, name: str) -> str:
    return shutil.copy("/bin/sleep", folder / name)


def test_a_bare_process_is_fair_game() -> None:
    """Also where it shares its cgroups, were they the roots, with all that is protected."""
    with spawn(SLEEP) as process:
        protect(resolve(f"pid:{process.pid}"))


def test_init_is_protected() -> None:
    """By its pid, and by every cgroup that holds it."""
    assert "pid:1 is protected: it is pid 1, the init of this host" in refused(resolve("pid:1"))


def test_every_root_cgroup_is_protected() -> None:
    """In each hierarchy, and all of them at once; they are the entire system."""
    mounts = kernel_cgroup.hierarchies()
    assert mounts
    for word in ("/", *mounts.values()):
        target = resolve(f"cgroup:{word}")
        assert "is a root cgroup" in refused(target)
        assert radius(target) == "entire-system"


def test_chaosd_and_its_parents_are_protected() -> None:
    """This very process, each of its parents, and a cgroup that holds it."""
    assert f"pid {os.getpid()} " in refused(resolve(f"pid:{os.getpid()}"))
    for parent in ancestors(os.getpid(), snapshot()):
        assert "is protected" in refused(resolve(f"pid:{parent.pid}"))
    code = (
        "import os, sys; from chaosd.errors import ChaosdError;"
        "from chaosd.targets.protect import protect; from chaosd.targets.resolve import resolve;"
        "open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()));"
        "target = resolve('cgroup:' + sys.argv[1])\n"
        "try: protect(target)\n"
        "except ChaosdError as error: print(error)"
    )
    with cgroup() as group:
        said = subprocess.run(python(code, group.path), capture_output=True, text=True, check=True).stdout
    assert "it holds pid" in said
    assert "chaosd itself" in said


@pytest.mark.parametrize("name", ["chaosd", "chaosd-watchdog"])
def test_another_chaosd_is_protected(tmp_path: Path, name: str) -> None:
    """The daemon, the watchdog and another run, by the name they bear."""
    with spawn([copy_of_sleep(tmp_path, name), "600"]) as process:
        assert "chaosd itself" in refused(resolve(f"pid:{process.pid}"))


@pytest.mark.parametrize("name", ["sshd", "dockerd", "systemd-journal", "systemd-logind", "dbus-daemon"])
def test_a_daemon_of_the_host_is_protected(tmp_path: Path, name: str) -> None:
    """By pid, by name, as the child of a target, and by a cgroup that holds it."""
    tool = copy_of_sleep(tmp_path, name)
    with cgroup() as group, spawn([tool, "600"], cg=group) as process:
        for word in (f"pid:{process.pid}", f"comm:{name}", f"cgroup:{group.path}"):
            assert f"({name})" in refused(resolve(word))
    with spawn(["sh", "-c", f"{tool} 600; true"]) as parent:
        until(lambda: name in [seen.comm for seen in tree(parent.pid, snapshot())], "no child")
        said = refused(resolve(f"pid:{parent.pid}"))
        assert "it holds pid" in said
        assert f"({name})" in said


def test_a_daemon_of_a_container_is_not(tmp_path: Path) -> None:
    """In a pid namespace of its own it serves nobody but the container."""
    tool = copy_of_sleep(tmp_path, "sshd")
    with spawn(["unshare", "--pid", "--fork", "--kill-child", tool, "600"]) as outer:
        until(lambda: len(resolve(f"pid:{outer.pid}").processes) == 2, "no child")
        target = resolve(f"pid:{outer.pid}")
        until(lambda: Path(f"/proc/{target.processes[1].pid}/comm").read_text() == "sshd\n", "no sshd")
        protect(resolve(f"pid:{outer.pid}"))


def test_a_cgroup_filled_later_is_protected(tmp_path: Path) -> None:
    """Who is in a cgroup is read when protection is asked for, not when it was resolved."""
    with cgroup() as group:
        target = resolve(f"cgroup:{group.path}")
        protect(target)
        with spawn([copy_of_sleep(tmp_path, "sshd"), "600"], cg=group):
            assert "it holds pid" in refused(target)


def test_the_hosts_namespace_is_said_as_host() -> None:
    """``netns:`` of the host is the entire system under another name; ``host`` passes by itself."""
    with spawn(SLEEP) as process:
        target = resolve(f"netns:{process.pid}")
        assert "say host" in refused(target)
        assert radius(target) == radius(resolve("host")) == "entire-system"
    protect(resolve("host"))
    protect(resolve("dev:lo"))
    assert radius(resolve("dev:lo")) == "service-cluster"


def test_the_operator_is_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer of SSH_CONNECTION, mapped addresses and scopes made plain; also from a parent."""
    monkeypatch.delenv("SSH_CLIENT", raising=False)
    ask = "from chaosd.targets.protect import operator_addresses; print(*operator_addresses())"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ask!r}], env={{}}, check=True)"
    for told, found in (
        ("203.0.113.7 50000 192.0.2.1 22", "203.0.113.7"),
        ("::ffff:203.0.113.8 50000 ::ffff:192.0.2.1 22", "203.0.113.8"),
        ("fe80::7%eth0 50000 fe80::1%eth0 22", "fe80::7"),
    ):
        for code in (ask, nested):
            environment = {**os.environ, "SSH_CONNECTION": told}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            assert found in done.stdout.split()
    environment["SSH_CONNECTION"] = "nonsense"
    subprocess.run([sys.executable, "-c", ask], env=environment, check=True)


@pytest.mark.parametrize(
    ("listen", "reach", "found"),
    [
        ("10.99.78.1", "10.99.78.1", "10.99.78.2"),
        ("::", "fd99:78::1", "fd99:78::2"),
        ("::", "10.99.78.1", "10.99.78.2"),
    ],
)
def test_the_operator_is_found_by_the_connection_of_sshd(listen: str, reach: str, found: str) -> None:
    """With an empty environment, the established sockets of the sshd above tell the peer."""
    with (
        netns() as server,
        netns() as client,
        veth(server, client, net=78),
        spawn(python(SSHD, listen, "::" if listen == "::" else reach), ns=server) as sshd,
    ):
        assert sshd.stdout is not None
        assert sshd.stdout.readline() == "listening\n"
        with spawn(python(CLIENT, reach), ns=client):
            assert found in sshd.stdout.readline().split()


def test_another_session_counts_unless_it_is_by_loopback() -> None:
    """A daemon has no login above it: every sshd's peers are left alone, but not all of ``lo``."""
    code = SSHD.replace(
        'subprocess.run([sys.executable, "-c", ask], env={}, check=True)', "print('on', flush=True); input()"
    )
    with netns() as server, netns() as client, veth(server, client, net=79):
        for listen, ns, found in (("10.99.79.1", client, "10.99.79.2"), ("127.0.0.1", server, "127.0.0.1")):
            with spawn(python(code, listen, listen), ns=server) as sshd:
                assert sshd.stdout is not None
                assert sshd.stdout.readline() == "listening\n"
                with spawn(python(CLIENT, listen), ns=ns):
                    assert sshd.stdout.readline() == "on\n"
                    assert (found in operator_addresses()) == (listen != "127.0.0.1")


def test_protection_does_not_depend_on_the_word() -> None:
    """The identity counts: another word for the same process is refused as well."""
    target = msgspec.structs.replace(resolve("pid:1"), spec="comm:harmless")
    assert "comm:harmless is protected" in refused(target)
