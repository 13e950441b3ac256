"""The chaosd command, made to die at one chosen point of its run.

    python victim.py WHO POINT NUMBER [chaosd's arguments]

WHO dies: ``engine``, ``watchdog``, ``both``; or ``stop`` (the engine gets SIGSTOP), ``term``,
``int``. POINT is a step in the life of an edit, NUMBER says which edit, in the order of promises:

    promise   just before its intent is written        undo      just before it is reverted
    promised  the intent is on record, no deed yet     undone    reverted, not yet on record
    done      the deed is done, not yet on record      reverted  on record as reverted
    applied   on record as applied

or POINT is ``line`` and NUMBER counts the lines of chaosd.kernel that run inside ``apply`` and
``revert``, so that it dies in the middle of one. ``--late`` as the first argument of chaosd makes
the deed come before the promise: what the order of the two protects from must then be seen.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from chaosd import watchdog
from chaosd.journal import Journal
from chaosd.kernel import edit as edits
from chaosd.kernel.edit import Edit

who, point, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
watchdogs: list[int] = []
seen: dict[str, int] = {}
engine = os.getpid()


def strike() -> None:
    if os.getpid() != engine:
        return
    Path(os.environ["CHAOSD_STRUCK"]).write_text(f"{point} {number}", "ascii")
    if who in ("watchdog", "both"):
        os.kill(watchdogs[0], signal.SIGKILL)
    deadly = {"engine": signal.SIGKILL, "both": signal.SIGKILL, "stop": signal.SIGSTOP}
    if who in ("term", "int"):
        os.kill(engine, signal.SIGTERM if who == "term" else signal.SIGINT)
    elif who in deadly:
        os.kill(engine, deadly[who])


def reached(name: str) -> None:
    # What is applied before the first promise are trials in scratch namespaces, not edits of the run.
    if name != "promise" and "promise" not in seen:
        return
    index = seen.get(name, 0)
    seen[name] = index + 1
    if name == point and index == number:
        strike()


def wrap(owner: Any, name: str, before: str = "", after: str = "") -> None:
    inner = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        if before:
            reached(before)
        result = inner(*args, **kwargs)
        if after:
            reached(after)
        return result

    setattr(owner, name, outer)


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    def tracer(frame: FrameType, event: str, _argument: Any) -> Any:
        if "/chaosd/kernel/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            reached("line")
        return tracer

    def outer(*args: Any) -> Any:
        sys.settrace(tracer)
        try:
            return function(*args)
        finally:
            sys.settrace(None)

    return outer


def start(*args: Any) -> watchdog.Watchdog:
    found = original_start(*args)
    watchdogs.append(found.process.pid)
    return found


def arm() -> None:
    for kind in edits.kinds():
        if "apply" in vars(kind):
            if point == "line":
                kind.apply = traced(kind.apply)  # type: ignore[method-assign]
            wrap(kind, "apply", after="done")
        if "revert" in vars(kind):
            if point == "line":
                kind.revert = traced(kind.revert)  # type: ignore[method-assign]
            wrap(kind, "revert", before="undo", after="undone")


early: set[Edit] = set()


def once(apply: Callable[[Edit], None]) -> Callable[[Edit], None]:
    def outer(edit: Edit) -> None:
        if edit in early:
            early.discard(edit)
        else:
            apply(edit)

    return outer


original_start = watchdog.start
watchdog.start = start  # type: ignore[assignment]
if "CHAOSD_GUEST" in os.environ:
    watchdog.GRACE = 15.0  # emulated, one edit may take longer than the watchdog waits for a pulse elsewhere
wrap(Journal, "intend", before="promise", after="promised")
wrap(Journal, "applied", after="applied")
wrap(Journal, "reverted", after="reverted")

if __name__ == "__main__":
    from chaosd.cli.main import main
    from chaosd.faults.base import registry

    registry()
    arm()
    sys.argv[1:] = sys.argv[4:]
    if sys.argv[1:2] == ["--late"]:
        del sys.argv[1]
        promise = Journal.intend

        def late(journal: Journal, edit: Edit) -> int:
            edit.apply()
            early.add(edit)
            seen.setdefault("promise", 0)
            reached("late")
            return promise(journal, edit)

        Journal.intend = late  # type: ignore[method-assign]
        for kind in edits.kinds():
            if "apply" in vars(kind):
                kind.apply = once(kind.apply)  # type: ignore[method-assign]
    main()
