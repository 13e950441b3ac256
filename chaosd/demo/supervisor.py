"""Starts the services, starts again what dies, and removes everything in the end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaosd.demo import cgroups, hostwork, world
from chaosd.demo.settings import Settings
from chaosd.demo.world import SERVICES, DemoError

_STOP = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_READY_WITHIN = 60.0  # where everything is emulated, Python alone takes ten


class Supervisor:
    """The services of one demo; leaving the ``with`` block ends them.

    The main thread must be the one that uses it: a service dies with the thread that started it
    (prctl(2): PR_SET_PDEATHSIG is about the parent *thread*).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._due: dict[str, float] = {}

    def __enter__(self) -> Self:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP | {signal.SIGCHLD})
        self._claim = world.Claim(self._settings)
        try:
            world.make_namespaces(self._settings)
            world.make_folder(self._settings)
            hostwork.write_files(self._settings.folder)
            for name in SERVICES:
                self._start(name)
            for name in SERVICES:
                _await_ready(name, self._children[name])
            self._claim.write(self.state())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def state(self) -> dict[str, Any]:
        """Names, pids, addresses and URLs, as plain data."""
        settings = self._settings
        ports = {
            "booking": (world.BOOKING, settings.booking_port),
            "database": (world.DATABASE, settings.database_port),
            "pms": (world.PMS, settings.pms_port),
            "names": (world.NAMES, settings.names_port),
        }
        addresses = {name: f"{host}:{port}" for name, (host, port) in ports.items()}
        return {
            "name": settings.name,
            "supervisor": os.getpid(),
            "netns": settings.name,
            "client_netns": settings.client_name,
            "folder": settings.folder,
            "pids": {name: child.pid for name, child in self._children.items()},
            "addresses": addresses,
            "urls": {name: f"http://{addresses[name]}" for name in ("booking", "pms")},
        }

    def watch(self, log: Callable[[str], None]) -> None:
        """Keep the services running until a signal to stop arrives or the parent process is gone."""
        parent = os.getppid()
        while os.getppid() == parent:
            said = signal.sigtimedwait(_STOP | {signal.SIGCHLD}, 0.1)
            if said is not None and said.si_signo in _STOP:
                return
            self._tend(log)

    def _tend(self, log: Callable[[str], None]) -> None:
        now = time.monotonic()
        for name, child in self._children.items():
            if name not in self._due and child.poll() is not None:
                log(f"{name} (pid {child.pid}) ended with status {child.returncode}")
                self._due[name] = now + self._settings.restart_delay
        late = [name for name, at in self._due.items() if now >= at]
        for name in late if self._settings.restart else ():
            del self._due[name]
            self._start(name)
            self._claim.write(self.state())
            log(f"{name} started again (pid {self._children[name].pid})")

    def _start(self, name: str) -> None:
        argv = [sys.executable, "-m", "chaosd.demo", "serve", name, "--parent", str(os.getpid())]
        before = self._children.get(name)
        if before and before.stdout:
            before.stdout.close()
        # A session of their own: Ctrl-C is for the supervisor, which ends them in good order.
        self._children[name] = subprocess.Popen(
            argv + self._settings.argv(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=partial(cgroups.join, self._settings.cgroup(name)),  # noqa: PLW1509 - this process has one thread
            env=environment(),
        )

    def _end(self) -> None:
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                pass  # frozen by somebody (cgroup v1 freezer); it dies when it is thawed
        self._claim.release()


def _await_ready(name: str, child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], _READY_WITHIN)[0] or not child.stdout.read(1):
        raise DemoError(f"the {name} service did not start")


def environment() -> dict[str, str]:
    """An environment in which ``python -m chaosd.demo`` is this very package."""
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
