"""What is loaded while something else goes on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

from chaosd.kernel.bpf import lease

T = TypeVar("T")


class Coming(Generic[T]):
    """What a thread of its own is loading, while this one goes on."""

    def __init__(self, load: Callable[[], T]) -> None:
        lease()  # there is one, whichever thread asks first
        self._load = load
        self._thread = Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        self._error: Exception | None = None
        try:
            self._loaded = self._load()
        except Exception as error:  # noqa: BLE001 - it is raised where it is asked for
            self._error = error

    def get(self) -> T:
        """Wait for it; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._loaded
