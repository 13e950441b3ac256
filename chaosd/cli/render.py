"""Tables for people, drawn by rich from the same views that ``--json`` prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaosd.journal import Record
from chaosd.report import words
from chaosd.report.facts import restoration
from chaosd.report.fold import View, of
from chaosd.watchdog import now

_console = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
_COLORS = {"passed": "green", "inconclusive": "yellow", "interrupted": "yellow", "not-restored": "bold red"}
_WHEN = ("before", "during", "after")
_NEWEST = 8


def on_standard_error() -> None:
    """Print there from now on: standard output is somebody else's."""
    _console.stderr = True


class Progress:
    """Shows a run while it goes on: a live table on a terminal, else a line for each phase."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._phase = ""
        self._live: Live | None = None

    def refresh(self) -> None:
        """Show what the view says now."""
        if self._view.phase == self._phase:
            return
        self._phase = self._view.phase
        if not _console.is_terminal:
            if self._phase not in ("starting", "ended"):
                _say((f"{self._view.scenario}: {self._phase}", "dim"))
        elif self._live is None and self._phase in ("baseline", "fault", "recover"):
            self._live = Live(
                console=_console,
                refresh_per_second=8,
                transient=True,
                get_renderable=lambda: _screen(self._view),
            )
            self._live.start()

    def close(self) -> None:
        """Take the live table away."""
        if self._live is not None:
            self._live.stop()


def follow(path: Path) -> None:
    """Show the run of another process until it ends."""
    view = of(path)
    with closing(Progress(view)) as progress:
        while path.exists():
            fresh = of(path)
            for field in view.__struct_fields__:
                setattr(view, field, getattr(fresh, field))
            progress.refresh()
            time.sleep(0.25)


def follow_told(records: Iterable[Record]) -> None:
    """Show a run whose records come from elsewhere until it ends."""
    view = View()
    with closing(Progress(view)) as progress:
        for record in records:
            view.add(record)
            progress.refresh()


def _screen(view: View) -> RenderableType:
    return Group(_headline(view), *_strengths(view), *_tables(view))


def _strengths(view: View) -> Iterator[Text]:
    if any(level not in (0, 1) for level in view.levels) or len(set(view.levels)) > 1:
        faults = view.plan.get("faults", ())
        said = [f"{fault['fault']} {level:.0%}" for fault, level in zip(faults, view.levels, strict=False)]
        yield Text.assemble(("strength  ", "dim"), ", ".join(said))


def _headline(view: View) -> Text:
    text = Text.assemble((view.scenario, "bold"), f"  run {view.run}  ", (view.phase, "cyan"))
    if view.phase == "fault":
        total = max(view.plan.get("duration", 0.0), 0.001)
        left = max(view.fault_ends - now(), 0.0)
        filled = round(20 * (1 - left / total))
        text.append(f"  {'━' * filled}", "cyan").append("━" * (20 - filled), "dim").append(
            f" {left:4.1f} s left"
        )
    return text


def _tables(view: View) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if view.checks:
        table = _grid("check", "rate", "ok", "p50", "p95", "p99", "last answer")
        for name, stats in view.checks.items():
            table.add_row(name, *_figures(stats), str(stats.get("detail", ""))[:40])
        parts.append(table)
    if view.evidence:
        parts.append(_evidence(view.evidence))
    if view.hits:
        parts.append(_hits(view))
    return parts


def _hits(view: View) -> Table:
    table = _grid("at", "pid", "", "call", "result", "of")
    for hit in view.hits[-_NEWEST:]:
        at = f"{hit['t'] - view.live:+.3f} s"
        table.add_row(at, str(hit["pid"]), hit["comm"], hit["call"], hit["result"], hit["detail"])
    return table


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name)
    return table


def _figures(stats: dict[str, Any]) -> list[str]:
    if not stats.get("count"):
        return ["-"] * 5
    return [
        f"{stats['per_second']:.1f}/s",
        f"{stats['availability']:.1%}",
        *(words.seconds(stats.get(q)) for q in ("p50", "p95", "p99")),
    ]


def _evidence(entries: list[dict[str, Any]]) -> Table:
    table = _grid("fault", "target", "matched", "injected", "skipped")
    for entry in entries:
        skipped = ", ".join(f"{count:,} {why}" for why, count in entry["skipped"].items() if count)
        unit = entry["unit"]
        table.add_row(
            entry["fault"],
            entry["target"],
            f"{entry['matched']:,} {unit}",
            f"{entry['injected']:,} {unit}",
            skipped or "-",
        )
    return table


def _struck(view: View) -> None:
    for line in words.followed(view.followed):
        _say(line)
    if view.evidence:
        _console.print(_evidence(view.evidence))
    for line in _by_process(view.evidence):
        _say(("most hits  ", "dim"), line)
    if view.hits:
        _console.print(_hits(view))


def _by_process(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        top = sorted(entry.get("processes", {}).items(), key=lambda item: -item[1])
        if len(top) > 1:
            yield f"{entry['fault']}: " + ", ".join(f"pid {pid} {count:,}" for pid, count in top[:_NEWEST])


def plan(data: dict[str, Any]) -> None:
    """Print a plan."""
    about = f"  {data['duration']:g} s, reaches {data['radius']}, seed {data['seed']}"
    _say((data["scenario"], "bold"), about)
    for fault in data["faults"]:
        mark = ("  cannot be undone", "bold red") if fault["irreversible"] else ""
        _say()
        _say((fault["fault"], "bold"), f" on {fault['target']} by {fault['mechanism']}", mark)
        if (fault["start"], fault["end"], fault["shape"]) != (0, data["duration"], "constant"):
            _say(f"  when    from {fault['start']:g} s to {fault['end']:g} s, {fault['shape']}")
        for line in fault["edits"]:
            _say(f"  edit    {line}")
        for line in fault["effect"]:
            _say(f"  effect  {line}")
    _say()
    for name, check in data["steady_state"].items():
        _say(f"steady state  {name}: {check}")
    if data["abort_when"]:
        _say(f"abort when    {', '.join(data['abort_when'])}")
    if data["expect"]:
        _say(f"expect        {', '.join(data['expect'])}")
    _say(("nothing was touched", "dim"))


def result(view: View) -> None:
    """Print how a run ended: figures before, during and after, evidence, verdict, restoration."""
    _say((view.scenario, "bold"), f"  run {view.run}")
    if view.stats:
        table = _grid("check", "", "rate", "ok", "p50", "p95", "p99")
        for name in dict.fromkeys(name for stats in view.stats.values() for name in stats):
            for i, when in enumerate(w for w in _WHEN if name in view.stats.get(w, {})):
                table.add_row("" if i else name, when, *_figures(view.stats[when][name]))
        _console.print(table)
    for fault in view.plan.get("faults", ()):
        for line in fault["effect"]:
            _say(("configured  ", "dim"), line)
    for outcome in view.expected:
        mark = ("held", "green") if outcome["held"] else ("not so", "red")
        _say(("expected  ", "dim"), f"{outcome['says']}: {outcome['measured']}, ", mark)
    _struck(view)
    if view.recovered_after is not None:
        _say(f"steady state again {words.seconds(view.recovered_after)} after the fault was lifted")
    reason = f": {view.reason}" if view.reason else ""
    _say((view.verdict, _COLORS.get(view.verdict, "red")), reason)
    _say(restoration(view))


def history(rows: list[dict[str, Any]]) -> None:
    """Print a line for each of some runs."""
    table = _grid("run", "began", "scenario", "target", "verdict", "took", "recovered", "hits", "score")
    for row in rows:
        verdict = Text(row["verdict"], _COLORS.get(row["verdict"], "red"))
        times = (words.seconds(row["took"]), words.seconds(row["recovered_after"]))
        about = (row["run"], words.moment(row["began"]), row["scenario"], ", ".join(row["targets"]))
        table.add_row(*about, verdict, *times, words.count(row["hits"]), words.points(row["score"]))
    _console.print(table)


def _say(*parts: str | tuple[str, str]) -> None:
    _console.print(Text.assemble(*parts))


def status(view: View, *, alive: bool) -> None:
    """Print a live journal."""
    _console.print(_screen(view))
    for says in view.open_edits():
        _say(f"  open  {says}")
    if not alive:
        _say(("its engine is dead", "bold red"), "; put it back with: chaosd revert --all")


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line of text and of text with a style."""
    _say(*parts)


def verdict(view: View) -> None:
    """Print in one line how a run ended."""
    reason = f": {view.reason}" if view.reason else ""
    _say("  ", (view.verdict, _COLORS.get(view.verdict, "red")), reason)


def suite(views: Sequence[View], skipped: Sequence[tuple[str, str]]) -> None:
    """Print a row for each run, those that were skipped with their reasons, and the sum."""
    table = _grid("scenario", "verdict", "hit", "ok", "p95 before", "during", "after", "recovered in")
    for view in views:
        recovered = f"{view.recovered_after:.1f} s" if view.recovered_after is not None else "-"
        shown = Text(view.verdict, _COLORS.get(view.verdict, "red"))
        table.add_row(view.scenario, shown, _injected(view), *_worst_check(view), recovered)
    for name, _ in skipped:
        table.add_row(name, Text("skipped", "yellow"), *["-"] * 6)
    _console.print(table)
    for name, reason in skipped:
        _say(("skipped  ", "yellow"), f"{name}: {reason}")
    for view in views:
        for says in view.open_edits():
            _say(("NOT restored  ", "bold red"), f"{view.scenario}: {says}")
    passed = sum(view.verdict == "passed" for view in views)
    _say(f"{passed} of {len(views)} runs passed, {len(skipped)} scenarios skipped")


def _injected(view: View) -> str:
    return ", ".join(f"{e['injected']:,} of {e['matched']:,} {e['unit']}" for e in view.evidence) or "-"


def _worst_check(view: View) -> list[str]:
    """Of the check that fared worst: its availability during the fault, and its 95th percentiles."""
    during = {name: stats for name, stats in view.stats.get("during", {}).items() if stats.get("count")}
    if not during:
        return ["-"] * 4
    name = min(during, key=lambda check: during[check]["availability"])
    rows = [_figures(view.stats.get(when, {}).get(name, {})) for when in _WHEN]
    return [rows[1][1], *(row[3] for row in rows)]
