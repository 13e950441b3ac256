"""Looking for a target that is gone, for it may have been started again."""

from __future__ import annotations

import time
from threading import Thread

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.targets.model import Target
from chaosd.targets.resolve import resolve
from chaosd.units import Duration

PATIENCE = Duration(30)
"""For how long a target may stay away before the run ends."""
_PAUSE = 0.2


class Search:
    """Looks for a target in a thread: whom it asks may hang, and the run goes on.

    What goes by the target's word now is taken for it, whatever its pid, its cgroup and its namespace.

    Args:
        lost: the target.
        why: it is gone.
    """

    def __init__(self, lost: Target, why: TargetLostError) -> None:
        self.word = lost.spec
        self._lost, self._why = why.message, ""
        self._until = time.monotonic() + PATIENCE
        self._found: Target | None = None
        self._begin()

    def _begin(self) -> None:
        Thread(target=self._look, name="search", daemon=True).start()

    def _look(self) -> None:
        while time.monotonic() < self._until:
            time.sleep(_PAUSE)
            try:
                target = resolve(self.word)
                target.check_alive()
            except ChaosdError as error:
                self._why = str(error)
            else:
                self._found = target
                return

    def found(self) -> Target | None:
        """What goes by its word now; None as long as there is nothing.

        Raises:
            TargetLostError: it has stayed away for too long.
        """
        if self._found is None and time.monotonic() > self._until:
            raise self.failure()
        return self._found

    def again(self, why: Exception) -> None:
        """Look once more, for what was found is not whole yet, or is gone again."""
        self._found, self._why = None, str(why)
        self._begin()

    def failure(self) -> TargetLostError:
        """What to say of it while it is away."""
        return TargetLostError(f"{self._lost}, and is not back" + (f": {self._why}" if self._why else ""))
