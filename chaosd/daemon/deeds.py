"""What a child of the zygote can be asked to do; each tells records, or one ``answer``."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaosd import byhand, catalog, doctor, document, engine, journal, plan, restore, scenario
from chaosd.daemon import refusals
from chaosd.daemon.refusals import DeniedError
from chaosd.daemon.zygote import OVER, Deed, Tell
from chaosd.errors import ChaosdError
from chaosd.metrics.seen import look as look_at
from chaosd.report import brief, compare, render, store
from chaosd.scenario import Scenario

Order = dict[str, Any]

DEEDS: dict[str, Deed] = {}


def deed(done: Deed) -> Deed:
    """Make a function something that children can be asked for; what it raises is told."""

    def told(order: Order, tell: Tell) -> int:
        try:
            return done(order, tell)
        except ChaosdError as error:
            tell(refusals.record(error))
            return int(error.exit)
        except Exception as error:  # noqa: BLE001 - who asked is told, and the log has it all
            traceback.print_exc()
            tell(refusals.record(DeniedError(500, f"an error in chaosd: {error!r}", "please report it")))
            return 1

    DEEDS[done.__name__] = told
    return told


def answering(made: Callable[[Order], Any]) -> Deed:
    """The same for a function that gives the ``answer``."""

    def answer(order: Order, tell: Tell) -> int:
        tell({"type": "answer", "answer": made(order)})
        return 0

    answer.__name__ = made.__name__
    return deed(answer)


@deed
def run(order: Order, tell: Tell) -> int:
    """Do a run: every record of its journal, as written; ``OVER`` lifts its faults before their time."""
    over = os.eventfd(0, os.EFD_CLOEXEC)
    signal.signal(OVER, lambda *_: os.eventfd_write(over, 1))
    return int(engine.execute(read(order), tell, confirmed=order["confirmed"], until=over))


@answering
def make_plan(order: Order) -> Any:
    """Plan a run."""
    return plan.describe(plan.make(read(order), confirmed=True))


@answering
def validate(order: Order) -> Any:
    """Check a scenario, without looking at the host."""
    return catalog.about(read(order))


@answering
def look(_order: Order) -> Any:
    """What this host can do, found out by trying."""
    return doctor.look()


@answering
def history(order: Order) -> Any:
    """The newest runs in short."""
    return brief.history(order["limit"], order["scenario"])


@answering
def view(order: Order) -> Any:
    """The state of a run, by its journal."""
    return store.load(_journal(order["run"]))


@answering
def stand(_order: Order) -> Any:
    """How the live runs stand, whoever has started them."""
    return [brief.summary(each) for each in byhand.live().values()]


@answering
def seen(order: Order) -> Any:
    """What metrics want of runs, by their journals."""
    return [found for run in order["runs"] if (found := look_at(run))]


@answering
def report(order: Order) -> Any:
    """The report of a run in one of its forms."""
    return render.render([store.load(_journal(order["run"]))], order["form"])


@answering
def compared(order: Order) -> Any:
    """A run against another one."""
    one, other = (store.load(_journal(order[key])) for key in ("run", "against"))
    return compare.render(one, other, order["form"])


@answering
def stop(order: Order) -> Any:
    """End runs of others: they and those that would not."""
    stopped, stuck = byhand.stop(byhand.choose(order["run"], everything=order["all"]))
    return {"runs": stopped, "stuck": stuck}


@answering
def revert(order: Order) -> Any:
    """Put runs back: they, and what would not go."""
    chosen = byhand.choose(order["run"], everything=order["all"] or order["scrub"])
    done, problems = byhand.revert(chosen)
    if order["scrub"] and not problems:
        removed, problems = restore.scrub()
        done += removed
    return {"done": done, "problems": problems}


@deed
def records(order: Order, tell: Tell) -> int:
    """The records of a run of others: those of its journal so far."""
    for record in journal.read(_journal(order["run"])):
        tell(record)
    return 0


def read(order: Order) -> Scenario:
    """The scenario of an order.

    Raises:
        ChaosdError: no such scenario, or what is wrong in it; or the daemon must not run a program of it.
    """
    text, name = order["text"], order.get("name") or os.path.join(order["folder"], "scenario")
    if order["scenario"]:
        text, name = library(order["scenario"]).read_text("utf-8"), order["scenario"]
    parsed = scenario.parse(text, name, order["overrides"])
    permit(parsed, order["allow"])
    return parsed


def library(name: str) -> Path:
    """The file of a scenario that comes with chaosd; no other is ever read for a client."""
    known = scenario.library()
    if name not in known:
        raise DeniedError(
            404, f"unknown scenario {name!r}", document.near(name, known, "chaosd scenarios list")
        )
    return known[name]


def permit(parsed: Scenario, allow: list[str] | None) -> None:
    """Refuse what would run a program, or show a file, that is not among these; None allows all."""
    checks = parsed.checks.values()
    for wanted in (*(c.executes for c in checks), *(step.fault.executes for step in parsed.faults)):
        if wanted and allow is not None and wanted not in allow:
            raise DeniedError(403, f"the daemon may not use {wanted}", "add it to allow in its configuration")


def _journal(run: str) -> Path:
    found = next((path for path in store.journals() if path.stem == run), None)
    if found is None:
        raise DeniedError(404, f"there is no run {run!r}", "see /v1/history")
    return found
