"""A systemd of the test's own: init of its own pid, mount, cgroup and network namespaces.

It knows no unit but those of the test, cannot write to the host's root file system, and ends with
the namespaces. Its cgroups are below one of a name of its own in every hierarchy of the host, which
it takes for the roots.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from world import need, until

import chaosd
from chaosd.kernel import cgroup
from chaosd.kernel.capability import Verdict, capability
from chaosd.targets.processes import snapshot, tree

_SYSTEMD = "/lib/systemd/systemd"
_serial = count()
# $1 is where the units are; each further argument is KEY:PATH of a hierarchy
_ENTER = """
set -e
units=$1; shift
mount -n -t tmpfs none /run
mount -n -o remount,bind,ro /
mount -n -t proc proc /proc
umount -n -R /sys/fs/cgroup
mount -n -t sysfs sysfs /sys
test "$1" = ":/sys/fs/cgroup" || mount -n -t tmpfs none /sys/fs/cgroup
for pair in "$@"; do
    key=${pair%%:*}; path=${pair#*:}
    test -d "$path" || mkdir -p "$path"
    case $key in
        "") mount -n -t cgroup2 none "$path" ;;
        name=*) mount -n -t cgroup -o "none,$key" none "$path" ;;
        *) mount -n -t cgroup -o "$key" none "$path" ;;
    esac
done
exec env container=test SYSTEMD_UNIT_PATH="/run/systemd/system.control:$units" \
    /lib/systemd/systemd --system --log-target=null --show-status=no --unit=default.target
"""
_DEFAULT = "[Unit]\nDefaultDependencies=no\nWants={}\n"


@capability("systemd")
def SYSTEMD() -> Verdict:  # noqa: N802
    """Whether systemd can be started in namespaces here."""
    if not Path(_SYSTEMD).is_file() or shutil.which("systemctl") is None:
        return Verdict(ok=False, reason=f"no {_SYSTEMD}", mend="apt install systemd")
    if os.geteuid() != 0:
        return Verdict(ok=False, reason="not root", mend="sudo")
    return Verdict(ok=True)


class World:
    """A running systemd; ``pid`` is its init as the host sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command as one of its processes, with chaosd importable; never raises by itself."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--cgroup", "--net"]
        environment = {**os.environ, "PYTHONPATH": str(Path(chaosd.__file__).parents[1])}
        return subprocess.run(
            [*enter, *argv], capture_output=True, text=True, check=False, timeout=150, env=environment
        )


@contextmanager
def systemd(units: Mapping[str, str], idle: Mapping[str, str] | None = None) -> Iterator[World]:
    """A systemd that has started these units; skips where the capability ``systemd`` is missing.

    Args:
        units: the text of each, by name.
        idle: more of them, which are not started.
    """
    need(SYSTEMD)
    name = f"test-systemd-{os.getpid()}-{next(_serial)}"
    mounts = {key: point for key, point in cgroup.hierarchies().items() if key != "cpuset"}
    groups = [Path(point, name) for point in mounts.values()]
    with tempfile.TemporaryDirectory(prefix="units-") as folder:
        for unit, text in {
            **units,
            **(idle or {}),
            "default.target": _DEFAULT.format(" ".join(units)),
        }.items():
            Path(folder, unit).write_text(text, "ascii")
        try:
            for group in groups:
                group.mkdir()
            with _init(folder, mounts, groups) as pid:
                world = World(pid)
                ask = ("systemctl", "is-active", *units)
                until(lambda: world.call(*ask).returncode == 0, "the units do not start", 150)
                yield world
        finally:
            remove(groups)


@contextmanager
def _init(folder: str, mounts: Mapping[str, str], groups: list[Path]) -> Iterator[int]:
    def move() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")

    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--net", "--uts", "--ipc"]
    pairs = [f"{key}:{point}" for key, point in mounts.items()]
    process = subprocess.Popen(
        ["unshare", *namespaces, "sh", "-c", _ENTER, "sh", folder, *pairs],
        stdin=subprocess.DEVNULL,
        preexec_fn=move,
        start_new_session=True,
    )
    try:
        until(lambda: _comm_of_child(process) == "systemd", "systemd does not start", 60)
        yield tree(process.pid, snapshot())[1].pid
    finally:
        # the child first: unshare then collects it, and ends
        for seen in tree(process.pid, snapshot())[:2][-1:]:
            os.kill(seen.pid, signal.SIGKILL)
        process.wait()


def _comm_of_child(process: subprocess.Popen[bytes]) -> str:
    assert process.poll() is None, "unshare failed"
    family = tree(process.pid, snapshot())
    return family[1].comm if len(family) > 1 else ""


def remove(groups: list[Path]) -> None:
    """Remove cgroups, with what is below them, as soon as nobody is in there."""
    for group in groups:
        until(lambda group=group: not cgroup.members(str(group)), f"{group} stays populated")
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        if group.exists():
            group.rmdir()
