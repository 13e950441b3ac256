"""chaosd in a container of its own, built from the Dockerfile of this project, beside those of the shop."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shop_world import ROOT, Shop, build

CAPABILITIES = {
    "SYS_ADMIN": 21,
    "SYS_PTRACE": 19,
    "NET_ADMIN": 12,
    "DAC_OVERRIDE": 1,
    "KILL": 5,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "IPC_LOCK": 14,
}
"""What docs/containers.md gives it, each with its reason there, by the bits of linux/capability.h."""
UNCONFINED = ("apparmor", "systempaths")
"""What else the engine would keep it from: tracing, and writing to /proc/sys."""


def ours() -> list[str]:
    """Those of the capabilities that can be given here: a session may have been started without some."""
    status = Path("/proc/self/status").read_text("ascii")
    held = int(status.partition("CapBnd:")[2].split()[0], 16)
    return [name for name, bit in CAPABILITIES.items() if held >> bit & 1]


class Agent:
    """The image of chaosd, and containers of it that have the host's namespaces and few capabilities."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.folder = Path(shop.engine.url.removeprefix("unix://")).parent
        self.live = self.folder / "agent/run"
        self._made: list[Any] = []

    def start(self, *words: str, options: Sequence[str] = ()) -> Any:
        """Start chaosd with these words in a container, as docs/containers.md has it."""
        mounts = {
            "/sys/fs/cgroup": "/sys/fs/cgroup",
            str(self.folder / "engine.sock"): "/run/docker.sock",
            str(self.live): "/run/chaosd",
            str(self.folder / "agent/state"): "/var/lib/chaosd",
            str(self.shop.folder): str(self.shop.folder),  # where scenarios are
        }
        argv = ["docker", "--host", self.shop.engine.url, "run", "--detach", *options, "--pid=host"]
        argv += ["--network=host", "--cgroupns=host", "--device=/dev/net/tun", "--cap-drop=ALL"]
        argv += [f"--cap-add={name}" for name in ours()]
        argv += [f"--security-opt={name}=unconfined" for name in UNCONFINED]
        argv += [f"--volume={place}:{where}" for place, where in mounts.items()]
        done = subprocess.run([*argv, "chaosd", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self._made.append(self.shop.engine.client.containers.get(done.stdout.strip()))
        return self._made[-1]

    def chaosd(self, *words: str) -> tuple[int, str]:
        """What chaosd says in a container, and its exit status."""
        container = self.start(*words)
        status = container.wait(timeout=100)["StatusCode"]
        return int(status), container.logs(stderr=False).decode()

    def journals(self) -> list[Path]:
        """Those of runs that are not closed."""
        return list(self.live.glob("*.jsonl"))

    def remove(self) -> None:
        """Remove its containers."""
        for container in self._made:
            with suppress(Exception):
                container.remove(force=True)


@contextmanager
def agent(shop: Shop) -> Iterator[Agent]:
    """The image, built as users build it, and afterwards no container of it."""
    with tempfile.TemporaryDirectory(prefix="agent-") as context:
        subprocess.run([ROOT / "tools/install.sh", "stage", f"{context}/build/root"], check=True)
        for name in ("Dockerfile", ".dockerignore"):
            shutil.copy(ROOT / name, context)
        build(shop.engine, Path(context), "chaosd")
    found = Agent(shop)
    try:
        yield found
    finally:
        found.remove()
