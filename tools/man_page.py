"""Prints the man page, chaosd(8), made from the help of the commands themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from chaosd import __version__
from chaosd.cli.main import cli
from chaosd.errors import Exit

_EXITS = {
    Exit.OK: "done: the steady state held, the host is restored",
    Exit.FAILED: "the steady state or the recovery failed",
    Exit.REFUSED: "refused: bad input, unsafe, or the steady state did not hold at the start",
    Exit.ABORTED: "aborted by a threshold; the host is restored",
    Exit.INCONCLUSIVE: "inconclusive: the fault hit nothing",
    Exit.UNSUPPORTED: "this host cannot do it",
    Exit.INTERRUPTED: "interrupted; the host is restored",
    Exit.NOT_RESTORED: "something could not be put back; the message says what and how",
}
_FILES = {
    "/etc/chaosd/daemon.yaml": "what the daemon may do for whom",
    "/run/chaosd": "journals of live runs, and the API's socket",
    "/var/lib/chaosd/runs": "journals of finished runs",
}


def main() -> None:
    """Print it."""
    sys.stdout.writelines(f"{line}\n" for line in _page())


def _page() -> Iterator[str]:
    context = click.Context(cli, info_name="chaosd")
    yield f'.TH CHAOSD 8 "" "chaosd {__version__}"'
    yield ".SH NAME\nchaosd \\- fault injection that puts everything back"
    yield ".SH SYNOPSIS\n.B chaosd\n.I COMMAND\n[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]..."
    yield f".SH DESCRIPTION\n{_roff(cli.help or '')}\n.SH COMMANDS"
    for name in cli.list_commands(context):
        yield from _command(context, name)
    yield ".SH EXIT STATUS"
    yield from (f".TP\n.B {int(status)}\n{meaning}" for status, meaning in _EXITS.items())
    yield ".SH FILES"
    yield from (f".TP\n.I {path}\n{what}" for path, what in _FILES.items())
    yield ".SH SEE ALSO\n.BR systemd (1),\n.BR tc (8),\n.BR cgroups (7)"


def _command(parent: click.Context, name: str) -> Iterator[str]:
    command = cli.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {name} {_roff(usage)}\n{_roff(command.help or '')}"
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield f".TP\n.B {_roff(record[0])}\n{_roff(record[1])}"


def _roff(text: str) -> str:
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("\b", "")
    lines = (line.strip() for line in plain.splitlines())
    return "\n".join(".PP" if not line else f"\\&{line}" if line[0] in ".'" else line for line in lines)


if __name__ == "__main__":
    main()
