"""Processes that stand still by SIGSTOP."""

from __future__ import annotations

import signal
import time

from chaosd.errors import ChaosdError, TargetLostError
from chaosd.kernel.edit import Edit, Evidence, Undo
from chaosd.kernel.process import ProcessRef, family, send, stopped

_PATIENCE = 4.0  # under what a watchdog gives a silent engine


class Pause(Edit, frozen=True, tag="process.pause"):
    """Processes stopped by SIGSTOP, with every descendant when ``tree``.

    ``already`` are those that were stopped before and stay so. A descendant is found by its
    parents also at the end: a stopped tree makes no new ones.
    """

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
        deadline = time.monotonic() + _PATIENCE
        while running := [process for process in self._all() if not stopped(process)]:
            for process in running:
                send(process, signal.SIGSTOP)
            if time.monotonic() > deadline:
                raise ChaosdError(
                    f"process {running[0].pid} does not stop", hint="it may wait in the kernel (state D)"
                )
            time.sleep(0.001)
        if not self._held():
            raise TargetLostError(f"process {self.processes[0].pid} has ended")

    def revert(self) -> Undo:
        """Continue those that are stopped, children first, so that no parent finds one still stopped."""
        held = self._held()
        for process in reversed(held):
            send(process, signal.SIGCONT)
        return Undo.DONE if held else Undo.GONE

    def present(self) -> bool:
        """Whether one of them is stopped."""
        return bool(self._held())

    def lost(self) -> str:
        """They have ended, or somebody continued one."""
        alive = [process for process in self.processes if process.alive()]
        if not alive:
            return f"process {self.processes[0].pid} has ended"
        running = [process.pid for process in alive if not stopped(process)]
        return f"process {running[0]} was continued by somebody else" if running else ""

    def evidence(self) -> Evidence:
        """How many are stopped now."""
        return Evidence(len(self._all()), len(self._held()), unit="processes")

    def surroundings(self) -> dict[str, str]:
        """Whether each one that is alive is stopped."""
        return {f"process {p.pid}": "stopped" if stopped(p) else "runs" for p in self.processes if p.alive()}

    def _all(self) -> list[ProcessRef]:
        found = family(self.processes) if self.tree else [p for p in self.processes if p.alive()]
        return [process for process in found if process not in self.already]

    def _held(self) -> list[ProcessRef]:
        return [process for process in self._all() if stopped(process)]
