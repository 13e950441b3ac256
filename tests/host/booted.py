"""A host of the test's own, booted: systemd as pid 1 of a small Debian, by systemd-nspawn.

The Debian lies in the cache (tests/setup.sh makes it) and is laid under a file system in memory, so
that nothing written lasts. Its cgroups are below one of a name of its own; it ends with its pid
namespace, whatever it is doing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from systemd_world import remove
from world import need, until

from chaosd.kernel import cgroup
from chaosd.kernel.capability import Verdict, capability
from chaosd.targets.processes import snapshot, tree

_CACHE = Path(
    os.environ.get("CHAOSD_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "chaosd")
)
_TREE = _CACHE.expanduser() / "trees" / "bookworm"
_serial = count()
_FORCE_RESTART = 133  # how systemd-nspawn ends with --keep-unit when the guest reboots (nspawn.c)
# $1 is the tree, $2 an empty folder, the rest are words for systemd-nspawn
_ENTER = f"""
set -e
tree=$1; folder=$2; shift 2
mount -n -t tmpfs -o mode=755 none "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -n -t overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" none "$folder/root"
while
    status=0
    systemd-nspawn --directory="$folder/root" "$@" || status=$?
    test $status = {_FORCE_RESTART}
do :; done
"""
_NSPAWN = (
    "--boot",
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--private-network",
    "--capability=all",
    "--link-journal=no",
    "--resolv-conf=off",
    "--timezone=off",
    "--console=pipe",
)
# The guest's own cgroup v2, /proc/sys that can be written to, and every system call, bpf(2) among them.
_ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",
    "SYSTEMD_SECCOMP": "0",
}


@capability("booted-systemd")
def BOOTED() -> Verdict:  # noqa: N802
    """Whether a small Debian can be booted here."""
    if os.geteuid() != 0:
        return Verdict(ok=False, reason="not root", mend="sudo")
    if shutil.which("systemd-nspawn") is None:
        return Verdict(ok=False, reason="no systemd-nspawn", mend="apt install systemd-container")
    if not _TREE.with_suffix(".made").exists():
        return Verdict(ok=False, reason=f"no {_TREE}", mend="tests/setup.sh test")
    return Verdict(ok=True)


class Booted:
    """The running host."""

    def __init__(self, outer: subprocess.Popen[bytes]) -> None:
        self._outer = outer
        self.pid = 0
        self.wait_until_up()

    def wait_until_up(self, before: int = 0) -> None:
        """Wait until it has started all there is, as another boot than that of the init ``before``."""
        until(lambda: self._find() not in (0, before), "systemd does not start", 60)
        self.pid = self._find()
        state = ("systemctl", "is-system-running")
        until(lambda: self.call(*state).stdout.strip() in ("running", "degraded"), "it does not come up", 60)

    def _find(self) -> int:
        assert self._outer.poll() is None, "systemd-nspawn failed"
        inits = [seen.pid for seen in tree(self._outer.pid, snapshot()) if seen.comm == "systemd"]
        return inits[0] if inits else 0

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as root; never raises by itself."""
        return subprocess.run(
            self._words(words), **self._how(), capture_output=True, check=False, timeout=100
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command there as root."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self._words(words), **self._how(), stdout=pipe, stderr=pipe)

    def ask(self, *words: str) -> str:
        """What a command prints that must succeed."""
        done = self.call(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Put a file there, with its folder."""
        place = Path(f"/proc/{self.pid}/root", path.lstrip("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")

    def read(self, path: str) -> str:
        """What is in a file there."""
        return Path(f"/proc/{self.pid}/root", path.lstrip("/")).read_text("utf-8").strip()

    def _words(self, words: Sequence[str]) -> list[str]:
        spaces = ["--mount", "--pid", "--cgroup", "--net", "--uts", "--ipc", "--root", "--wd"]
        return ["nsenter", "--target", str(self.pid), *spaces, *words]

    def _how(self) -> dict[str, object]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        return {"text": True, "stdin": subprocess.DEVNULL, "env": {"PATH": path, "LANG": "C.UTF-8"}}


@contextmanager
def booted(folder: Path, *binds: tuple[Path, str]) -> Iterator[Booted]:
    """A booted Debian; skips where the capability ``booted-systemd`` is missing.

    Args:
        folder: an empty one of the test's own.
        binds: what of this host is to be seen there, read-only, and where.
    """
    need(BOOTED)
    name = f"test-booted-{os.getpid()}-{next(_serial)}"
    hierarchies = cgroup.hierarchies()
    groups = [Path(hierarchies[key], name) for key in (cgroup.UNIFIED, "name=systemd") if key in hierarchies]

    def move() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")

    words = [*_NSPAWN, f"--machine={name}", *(f"--bind-ro={source}:{place}" for source, place in binds)]
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        for group in groups:
            group.mkdir()
        outer = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                *namespaces,
                "sh",
                "-c",
                _ENTER,
                "sh",
                str(_TREE),
                str(folder),
                *words,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
            preexec_fn=move,
            start_new_session=True,
        )
        try:
            yield Booted(outer)
        finally:
            # the child first: unshare then collects it, and ends
            for seen in tree(outer.pid, snapshot())[1:2]:
                os.kill(seen.pid, signal.SIGKILL)
            outer.wait()
    finally:
        remove(groups)
