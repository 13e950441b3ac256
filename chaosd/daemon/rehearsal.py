"""What a child does until the order of a run comes: all of a run that changes nothing.

A process that was just forked shares its memory with its parent, and each page is copied when it is
first written to; a run writes to a few thousand. What is found out about the host is forgotten again, for
the order may be hours away.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

from chaosd import plan, restore, watchdog
from chaosd.checks.sampler import Sampler
from chaosd.daemon.deeds import read
from chaosd.daemon.zygote import Rehearsals
from chaosd.errors import ChaosdError
from chaosd.journal import Journal
from chaosd.judge import Judge
from chaosd.kernel import cgroup, gate
from chaosd.kernel.capability_network import GATE, TAGGING
from chaosd.kernel.process import ProcessRef
from chaosd.timeline import Timeline

_SCENARIO = (
    "name: rehearsal\nduration: 1s\nblast_radius: entire-system\nfaults: [network.loss: {percent: 5%}]\n"
)
_ORDER = {"scenario": "", "text": _SCENARIO, "folder": "", "allow": None}


def run() -> None:
    """Have a watchdog stand by, and go through a run of ``network.loss`` on ourselves and on the host."""
    with suppress(OSError):  # what is wrong, a run will tell
        watchdog.stand_by()  # first, for a fork makes all that we have shared anew
    for target in (f"pid:{os.getpid()}", "host"):  # the first is refused, after most of what finds it
        with suppress(ChaosdError, OSError):
            _go_through(target)
    cgroup.look_again()
    gc.collect()
    gc.freeze()


def _go_through(target: str) -> None:
    parsed = read(_ORDER | {"overrides": {"target": target}})
    if not GATE.known:  # to try it would be more than looking
        return
    if TAGGING.known:  # which neither target needs
        TAGGING()
    made = plan.make(parsed, confirmed=True)
    Sampler(made.checks, made.places)
    Judge(parsed)
    Timeline(made, _leave, _leave, _leave)
    process = ProcessRef.of(os.getpid())
    edits = (*watchdog.apart(made.run, process), *made.edits)
    book = Journal(Path(target), os.memfd_create("rehearsal"))
    book.write("before", plan=plan.describe(made), state=restore.surroundings(edits))
    for edit in edits:
        book.applied(book.intend(edit))
        edit.present()
    book.close()
    gate.load_ahead()


def _leave(*_: object, **__: object) -> None:
    pass  # what a run would do


REHEARSALS: Rehearsals = {"run": run}
