"""Bringing a unit or container back after it was killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chaosd.errors import ChaosdError
from chaosd.kernel import containers
from chaosd.kernel.edit import Edit, Undo
from chaosd.kernel.systemd import systemctl

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_NOTICE = 0.5
_promised: set[str] = set()


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
