"""Bringing a unit or container back after it was killed, and having the engine restart a container."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from chaosd.errors import ChaosdError
from chaosd.kernel import containers
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.systemd import systemctl

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_NOTICE = 0.5
_promised: set[str] = set()
_asked: dict[str, str] = {}  # what became of a restart: nothing yet, or why it failed


def running(manager: str) -> bool:
    """Whether a ``unit:NAME`` or ``container:ID`` is up, or on its way up.

    Raises:
        ChaosdError: systemd or the container engine does not answer, or knows no such thing.
    """
    kind, _, name = manager.partition(":")
    if kind == "unit":
        state = systemctl("show", "--property=ActiveState", "--value", "--", name)
        return state in ("active", "activating", "reloading")
    with _container(name) as container:
        return container.status in ("running", "restarting")


def start(manager: str) -> None:
    """Start it (``ChaosdError`` when that fails)."""
    kind, _, name = manager.partition(":")
    if kind == "unit":
        systemctl("reset-failed", "--", name)
        systemctl("start", "--", name)
        return
    with _container(name) as container:
        container.start()


@contextmanager
def _container(name: str) -> Iterator[Container]:
    for endpoint in containers.endpoints():
        with containers.engine(endpoint) as client:
            if found := _get(client, name):
                yield found
                return
    raise ChaosdError(f"there is no container {name} any more")


def _get(client: DockerClient, name: str) -> Container | None:
    from docker.errors import NotFound

    try:
        return client.containers.get(name)
    except NotFound:
        return None


class Restart(Edit, frozen=True, tag="process.restart"):
    """A promise: what is up now will be up at the end. Only its ``revert`` does anything."""

    manager: str

    @property
    def slot(self) -> str:
        """The life of the unit or container."""
        return f"manager:{self.manager}:life"

    def describe(self) -> str:
        """What is promised."""
        return f"start {self.manager} again at the end if it is down"

    def apply(self) -> None:
        """Nothing: the value itself is the promise."""
        _promised.add(self.slot)

    def revert(self) -> Undo:
        """Start it if it is down and its manager does not start it by itself."""
        _promised.discard(self.slot)
        if not _goes_down(self.manager):
            return Undo.GONE
        start(self.manager)
        return Undo.DONE

    def present(self) -> bool:
        """Whether the promise was given here, or it is down."""
        return self.slot in _promised or not running(self.manager)

    def surroundings(self) -> dict[str, str]:
        """Whether it is up."""
        return {self.manager: "up" if running(self.manager) else "down"}


def _goes_down(manager: str) -> bool:
    # a manager needs a moment to notice that the process is dead
    deadline = time.monotonic() + _NOTICE
    while running(manager):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Again(Edit, frozen=True, tag="container.restart"):
    """The engine stops a container, with ``grace`` seconds before it is killed, and starts it again.

    ``leader`` is its first process, by whose end it is known that the engine does so. Whatever becomes
    of the engine or of who asked it: that the container is up at the end is what ``Restart`` promises.
    """

    irreversible = True

    manager: str
    leader: ProcessRef
    grace: float

    @property
    def slot(self) -> str:
        """The life of this incarnation."""
        return f"process:{self.leader.pid}.{self.leader.start_time}:life"

    def describe(self) -> str:
        """Which container."""
        return f"have the engine restart {self.manager}, which has {self.grace:g} s to end"

    def apply(self) -> None:
        """Ask in a thread, for the engine answers when all is done."""
        _asked[self.slot] = ""
        Thread(target=self._ask, name="restart", daemon=True).start()

    def _ask(self) -> None:
        try:
            with _container(self.manager.partition(":")[2]) as container:
                container.restart(timeout=round(self.grace))
        except ChaosdError as error:
            _asked[self.slot] = str(error)

    def revert(self) -> Undo:
        """Nothing can."""
        return Undo.NEVER

    def present(self) -> bool:
        """Whether it was asked for from here, or the first process has ended."""
        return self.slot in _asked or not self.leader.alive()

    def lost(self) -> str:
        """The engine would not."""
        return _asked.get(self.slot, "")

    def evidence(self) -> Evidence:
        """One when it was asked for from here and the first process has ended."""
        return Evidence(1, int(self.slot in _asked and not self.leader.alive()), unit="containers")
