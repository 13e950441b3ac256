"""``report`` and ``history``: what runs did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from chaosd.cli import complete
from chaosd.cli.output import print_json

if TYPE_CHECKING:
    from chaosd.report.fold import View

_BY_SUFFIX = {".html": "html", ".htm": "html", ".json": "json", ".xml": "junit", ".md": "markdown"}


@click.command()
@click.argument("run", required=False, shell_complete=complete.run)
@click.option("--format", "form", type=click.Choice(["html", "json", "junit", "markdown", "text"]),
              help="In which form; by default what --output is called, or else text.")  # fmt: skip
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there.")
@click.option("--against", metavar="RUN", shell_complete=complete.run, help="Compare with another run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; the same as --format json.")
def report(run: str | None, form: str | None, output: str | None, against: str | None, as_json: bool) -> None:
    r"""Tell what RUN did: the newest, or one by its id, how that begins, or the file of its journal.

    \b
    chaosd report --output run.html
    chaosd report 5e6ca6 --against 77f0d1 --output compared.html
    """
    from chaosd import client

    suffix = _BY_SUFFIX.get(Path(output).suffix.lower(), "text") if output else "text"
    form = "json" if as_json else form or suffix
    if client.instead() and not (run and "/" in run):
        _report_told(run, form, output, against)
        return
    from chaosd.report import store

    view = store.load(store.find(run))
    if against is not None:
        _put(_compared(view, store.load(store.find(against)), form), output)
    elif form == "text" and output is None:
        from chaosd.cli import render

        render.result(view)
    else:
        _put(_rendered(view, form), output)


def _report_told(run: str | None, form: str, output: str | None, against: str | None) -> None:
    """The same from the daemon, for who may not read journals."""
    from chaosd import client

    known = [row["run"] for row in client.ask("GET", "/v1/history?limit=1000")]
    place = f"/v1/runs/{_one(run, known)}"
    if against is not None:
        text = client.read("GET", f"{place}/compare?against={_one(against, known)}&format={form}")
    elif form == "text" and output is None:
        import msgspec

        from chaosd.cli import render
        from chaosd.report.fold import View

        render.result(msgspec.json.decode(client.read("GET", place), type=View))
        return
    else:
        text = client.read("GET", f"{place}/report?format={form}")
    _put(text.decode(), output)


def _one(word: str | None, known: list[str]) -> str:
    from chaosd.errors import ChaosdError

    chosen = [run for run in known if run.startswith(word or "")]
    if not chosen:
        raise ChaosdError(f"there is no run {word or ''!r}", hint="see: chaosd history")
    if len(chosen) > 1 and word:
        raise ChaosdError(f"{word!r} begins more than one run", hint=", ".join(chosen))
    return chosen[0]


def _compared(view: View, other: View, form: str) -> str:
    from chaosd.errors import ChaosdError
    from chaosd.report import compare

    for known in compare.FORMS:
        if form == known:
            return compare.render(view, other, known)
    raise ChaosdError(f"two runs are not compared as {form}", hint=f"one of {', '.join(compare.FORMS)}")


def _rendered(view: View, form: str) -> str:
    from chaosd.errors import ChaosdError
    from chaosd.report.render import FORMS, render

    for known in FORMS:
        if form == known:
            return render([view], known)
    raise ChaosdError("text is for the terminal alone", hint=f"give --format, one of {', '.join(FORMS)}")


def _put(text: str, output: str | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    write(Path(output), text)
    click.echo(f"written: {output}")


def write(path: Path, text: str, *, folder: bool = False) -> None:
    """Write a file of a report, making its folder if asked to.

    Raises:
        ChaosdError: the disk will not take it.
    """
    from chaosd.errors import ChaosdError

    try:
        if folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ChaosdError(f"cannot write {path}: {error.strerror}") from None


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many runs.")
@click.option("--scenario", metavar="NAME", help="Only runs of this scenario.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def history(limit: int, scenario: str | None, as_json: bool) -> None:
    """List the runs of this host, the newest first, with verdict and score."""
    from chaosd import client

    if client.instead():
        only = f"&scenario={quote(scenario)}" if scenario else ""
        rows = client.ask("GET", f"/v1/history?limit={min(limit, 1000)}{only}")
    else:
        from chaosd.report import brief

        rows = brief.history(limit, scenario)
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo(f"no run of {scenario} is on record" if scenario else "no run is on record")
    else:
        from chaosd.cli import render

        render.history(rows)
