"""What is loaded while something else goes on, if it takes any time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

from chaosd.kernel.bpf import lease

T = TypeVar("T")


class Coming(Generic[T]):
    """What a thread of its own is loading, while this one goes on.

    Args:
        load: loads it.
        ready: there is little left to do, which this thread does.
    """

    def __init__(self, load: Callable[[], T], *, ready: bool) -> None:
        lease()  # there is one, whichever thread asks first
        self._load = load
        self._thread = None if ready else Thread(target=self._work)
        if self._thread is None:
            self._work()
        else:
            self._thread.start()

    def _work(self) -> None:
        self._error: Exception | None = None
        try:
            self._loaded = self._load()
        except Exception as error:  # noqa: BLE001 - it is raised where it is asked for
            self._error = error

    def here(self) -> bool:
        """Whether ``get`` need not wait."""
        return self._thread is None or not self._thread.is_alive()

    def get(self) -> T:
        """Wait for it; raises what went wrong."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._loaded
