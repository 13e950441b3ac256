"""Processes that stand still by SIGSTOP, and may be let run in between."""

from __future__ import annotations

import signal
import time
from typing import ClassVar

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.process import ProcessRef, family, send, stopped

_PATIENCE = 2.0
_running: set[str] = set()  # what is paused at other times, and runs for now
_most: dict[str, int] = {}  # how many were stopped at once


class Pause(Edit, frozen=True, tag="process.pause"):
    """Processes stopped by SIGSTOP, with every descendant when ``tree``.

    ``already`` are those that were stopped before and stay so. A descendant is found by its
    parents also at the end: a stopped tree makes no new ones.
    """

    scales: ClassVar[bool] = True

    processes: tuple[ProcessRef, ...]
    already: tuple[ProcessRef, ...] = ()
    tree: bool = True

    @property
    def slot(self) -> str:
        """The running state of the leading process."""
        return f"process:{self.processes[0].pid}.{self.processes[0].start_time}:state"

    def describe(self) -> str:
        """Which processes."""
        pids = ", ".join(str(process.pid) for process in self.processes)
        return f"stop {pids}" + (" and descendants" if self.tree else "")

    def apply(self) -> None:
        """Stop parents first, until every one is stopped and no new one appears."""
        _running.discard(self.slot)
        deadline = time.monotonic() + _PATIENCE
        while running := [process for process in self._all() if not stopped(process)]:
            for process in running:
                send(process, signal.SIGSTOP)
            if time.monotonic() > deadline:
                raise ChaosdError(
                    f"process {running[0].pid} does not stop", hint="it may wait in the kernel (state D)"
                )
            time.sleep(0.001)
        held = len(self._held())
        if not held:
            raise TargetLostError(f"process {self.processes[0].pid} has ended")
        _most[self.slot] = max(held, _most.get(self.slot, 0))

    def scale(self, level: float) -> None:
        """Let them run at 0, and stop them at anything above."""
        if level > 0:
            self.apply()
        else:
            _running.add(self.slot)
            self._continue()

    def revert(self) -> Undo:
        """Continue those that are stopped, children first, so that no parent finds one still stopped."""
        _running.discard(self.slot)
        _most.pop(self.slot, None)
        return Undo.DONE if self._continue() else Undo.GONE

    def _continue(self) -> bool:
        held = self._held()
        for process in reversed(held):
            send(process, signal.SIGCONT)
        return bool(held)

    def present(self) -> bool:
        """Whether one of them is stopped."""
        return bool(self._held())

    def lost(self) -> str:
        """They have ended, or somebody continued one."""
        alive = [process for process in self.processes if process.alive()]
        if not alive:
            return f"process {self.processes[0].pid} has ended"
        running = [process.pid for process in alive if not stopped(process)]
        if self.slot in _running:
            return ""
        return f"process {running[0]} was continued by somebody else" if running else ""

    def evidence(self) -> Evidence:
        """How many are stopped now, or were at once where they are let run in between."""
        held = _most.get(self.slot, 0) if self.slot in _running else len(self._held())
        return Evidence(max(len(self._all()), held), held, unit="processes")

    def surroundings(self) -> dict[str, str]:
        """Whether each one that is alive is stopped."""
        return {f"process {p.pid}": "stopped" if stopped(p) else "runs" for p in self.processes if p.alive()}

    def _all(self) -> list[ProcessRef]:
        found = family(self.processes) if self.tree else [p for p in self.processes if p.alive()]
        return [process for process in found if process not in self.already]

    def _held(self) -> list[ProcessRef]:
        return [process for process in self._all() if stopped(process)]
