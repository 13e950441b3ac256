"""A small booking service with a database and an outside API, to try faults on.

It imports nothing of the rest of chaosd and needs only the standard library and ``ip``.

    with demo.up() as d:
        status, quote = d.get("/quote?room=double")
        print(d.pids["database"], d.load(seconds=5, rate=50).line())
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

from chaosd.demo import world
from chaosd.demo.load import Load, Summary
from chaosd.demo.settings import Settings
from chaosd.demo.supervisor import environment
from chaosd.demo.world import DemoError

__all__ = ["Demo", "DemoError", "Load", "Settings", "Summary", "up"]


class Demo:
    """A running demo.

    Args:
        name: its name, which is the name of the services' network namespace.
    """

    def __init__(self, name: str) -> None:
        state = world.read_state(name)
        self.name = name
        self.netns: str = state["netns"]
        self.client_netns: str = state["client_netns"]
        self.addresses: dict[str, str] = state["addresses"]
        self.urls: dict[str, str] = state["urls"]
        self.folder: str = state["folder"]

    @property
    def pids(self) -> dict[str, int]:
        """The processes as of now: booking, database, pms. A service that was started again has a new one."""
        pids: dict[str, int] = world.read_state(self.name)["pids"]
        return pids

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, Any]:
        """GET a page of the booking service from the client's namespace: the status and the JSON or text."""
        return self._ask("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any], timeout: float = 5.0) -> tuple[int, Any]:
        """POST a JSON object to the booking service from the client's namespace."""
        return self._ask("POST", path, json.dumps(body), timeout)

    def state(self) -> dict[str, Any]:
        """What the booking service says about itself (/state)."""
        state: dict[str, Any] = self.get("/state")[1]
        return state

    def load(
        self,
        *,
        seconds: float,
        rate: float,
        paths: tuple[str, ...] = ("/quote?room=double",),
        timeout: float = 5.0,
    ) -> Summary:
        """Send GET requests from the client's namespace; returns when all have ended."""
        urls = [self.urls["booking"] + path for path in paths]
        return Load(urls, seconds=seconds, rate=rate, timeout=timeout, netns=self.client_netns).run()

    def _ask(self, method: str, path: str, body: str | None, timeout: float) -> tuple[int, Any]:
        with world.inside(self.client_netns):
            connection = HTTPConnection(self.addresses["booking"], timeout=timeout)
            connection.connect()
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
            json_came = response.headers["Content-Type"] == "application/json"
            return response.status, json.loads(text) if json_came else text
        finally:
            connection.close()


@contextmanager
def up(settings: Settings | None = None) -> Iterator[Demo]:
    """Start a demo in processes of its own; leaving the block removes all of it.

    If this process dies instead, the demo notices within a tenth of a second and removes itself.

    Raises:
        DemoError: it cannot start; one line says why.
    """
    settings = settings or Settings()
    argv = [sys.executable, "-m", "chaosd.demo", "up", "--json", *settings.argv()]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise DemoError(process.communicate()[1].strip().rpartition("\n")[2].removeprefix("error: "))
        yield Demo(settings.name)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
