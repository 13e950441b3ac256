"""The booking service, its database and its pms as three containers of a Docker Engine of the tests' own.

No registry is asked: the base of all images is the small Debian that ``tests/setup.sh`` has made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from container_engine import Engine, engine
from world import need, until

from chaosd.demo.world import BOOKING, DATABASE, PMS
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.netns import inside

ROOT = Path(__file__).resolve().parents[2]
TREE = Path(os.environ.get("CHAOSD_CACHE", "") or Path.home() / ".cache/chaosd") / "trees/bookworm"
BASE = "debian:bookworm-slim"
"""What the tree is called, so that nothing is looked for elsewhere."""
ADDRESSES = {"database": DATABASE, "pms": PMS, "booking": BOOKING}
_NETWORK, _GATEWAY = "10.66.0.0/24", "10.66.0.254"
_SPARED = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache", "var/lib/apt")


@capability("tree")
def DEBIAN() -> Verdict:  # noqa: N802
    """Whether the small Debian is here that images are made of."""
    made = Path(f"{TREE}.made").exists()
    return Verdict(ok=made, reason="" if made else f"no {TREE}", mend="tests/setup.sh test, as root")


class Shop:
    """Three containers on a bridge, and the command on their host.

    Args:
        running: their engine.
        folder: for what the command keeps.
    """

    def __init__(self, running: Engine, folder: Path) -> None:
        self.engine, self.folder = running, folder
        self.env = os.environ | {
            "DOCKER_HOST": running.url,
            "CHAOSD_RUN_DIR": str(folder / "run"),
            "CHAOSD_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def __getitem__(self, service: str) -> Any:
        return self.engine.client.containers.get(f"shop-{service}-1")

    @property
    def netns(self) -> str:
        """From where the services are reached."""
        return f"/proc/{self.engine.pid}/ns/net"

    def pid(self, service: str) -> int:
        """The first process of a service's container; 0 while it is down."""
        return int(self[service].attrs["State"]["Pid"])

    def get(self, page: str) -> int:
        """The status that the booking service answers with; 0 where it does not."""
        with inside(self.engine.netns):
            connection = HTTPConnection(BOOKING, 8000, timeout=10)
            try:
                connection.request("GET", page)
                return connection.getresponse().status
            except OSError:
                return 0
            finally:
                connection.close()

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start chaosd on the host."""
        argv = [sys.executable, "-m", "chaosd", *words]
        return subprocess.Popen(
            argv, env=self.env, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def chaosd(self, *words: str) -> tuple[int, str]:
        """What chaosd says, and its exit status."""
        process = self.start(*words)
        out, errors = process.communicate(timeout=110)
        assert "Traceback" not in errors, errors
        return process.returncode, out + errors

    def live(self) -> list[Path]:
        """The journals of runs that are not closed."""
        return list((self.folder / "run").glob("*.jsonl"))

    def wait(self, words: str) -> None:
        """Wait until the journal of the run that is live has these in it."""
        until(lambda: any(words in path.read_text("utf-8") for path in self.live()), f"no {words}", 60)

    def scenario(
        self,
        *faults: str,
        duration: str = "3s",
        page: str = "/bookings",
        within: str = "5s",
        more: str = "",
    ) -> str:
        """A file with a scenario whose steady state is a page of the booking service."""
        place = self.folder / "scenario.yaml"
        check = {"name": "shop", "url": f"http://{BOOKING}:8000{page}", "netns": self.netns, "within": within}
        head = f"name: shop\nduration: {duration}\nabort_when: [error_rate > 100%, availability < 0%]\n"
        steady = f"steady_state:\n  - http: {json.dumps(check)}\nfaults:\n"
        place.write_text(head + f"{more}\n" + steady + "".join(f"  - {fault}\n" for fault in faults), "utf-8")
        return str(place)

    def run(self, file: str, expect: int = 0) -> dict[str, Any]:
        """Do a run; its end as ``--json`` tells it, with everything put back."""
        status, out = self.chaosd("run", file, "--seed", "3", "--json")
        view: dict[str, Any] = json.loads(out)
        assert status == expect, (view.get("verdict"), view.get("reason"), out[:500])
        assert view["restored"]["differs"] == view["restored"]["stuck"] == [], view["restored"]
        return view


def base(running: Engine) -> None:
    """Make the base image: the tree of a small Debian, without what nobody reads there."""
    spared = [f"--exclude=./{path}/*" for path in _SPARED]
    tar = subprocess.Popen(["tar", "-C", TREE, *spared, "-c", "."], stdout=subprocess.PIPE)
    assert tar.stdout is not None
    name, _, tag = BASE.partition(":")
    running.client.api.import_image_from_stream(tar.stdout, repository=name, tag=tag)
    assert tar.wait() == 0


def build(running: Engine, folder: Path, tag: str) -> None:
    """Build an image from a folder with its Dockerfile, without a network."""
    running.client.images.build(path=str(folder), tag=tag, rm=True, network_mode="none")


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """The shop, open; skips where there is no Docker or no tree."""
    need(DEBIAN)
    with engine() as running, tempfile.TemporaryDirectory(prefix="shop-") as context:
        base(running)
        shutil.copytree(ROOT / "tests/container/shop", context, dirs_exist_ok=True)
        shutil.copytree(ROOT / "chaosd/demo", Path(context, "chaosd/demo"))
        shutil.copy(ROOT / "chaosd/__init__.py", Path(context, "chaosd"))
        build(running, Path(context), "shop")
        _network(running)
        for service, address in ADDRESSES.items():
            _start(running, service, address)
        found = Shop(running, folder)
        until(lambda: found.get("/bookings") == found.get("/quote") == 200, "the shop does not open", 60)
        yield found
        for service in ADDRESSES:  # sooner than the engine would
            found[service].remove(force=True)


def _network(running: Engine) -> None:
    from docker.types import IPAMConfig, IPAMPool

    pool = IPAMPool(subnet=_NETWORK, gateway=_GATEWAY)
    running.client.networks.create("shop", ipam=IPAMConfig(pool_configs=[pool]))


def _start(running: Engine, service: str, address: str) -> None:
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": service,
        "tier": "front" if service == "booking" else "back",
    }
    api = running.client.api
    made = api.create_container(
        "shop",
        [service],
        name=f"shop-{service}-1",
        labels=labels,
        host_config=api.create_host_config(network_mode="shop"),
        networking_config=api.create_networking_config(
            {"shop": api.create_endpoint_config(ipv4_address=address)}
        ),
    )
    api.start(made)
