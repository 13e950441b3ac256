"""The ``chaosd`` command. Each subcommand is imported when it is used, so that help is instant."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

import click

from chaosd import __version__

_COMMANDS = {
    "run": ("chaosd.cli.run", "Run a scenario, and put everything back."),
    "inject": ("chaosd.cli.run", "Inject one fault, with no scenario."),
    "exec": ("chaosd.cli.exec", "Start a command under faults, and lift them when it ends."),
    "plan": ("chaosd.cli.run", "Show what a scenario would do, touching nothing."),
    "suite": ("chaosd.cli.suite", "Run the scenarios of a category, or of a file, one after the other."),
    "monkey": ("chaosd.cli.monkey", "Now and then, in working hours, run a scenario on something eligible."),
    "schedule": ("chaosd.cli.schedule", "Run scenarios by the calendar."),
    "status": ("chaosd.cli.host", "Show the run that is live on this host."),
    "stop": ("chaosd.cli.host", "End a live run; it puts everything back."),
    "revert": ("chaosd.cli.host", "Put back what runs that died left behind."),
    "daemon": ("chaosd.cli.daemon", "Serve the API, for systemd to start."),
    "dashboard": ("chaosd.cli.dashboard", "Show the daemon's dashboard in a browser."),
    "report": ("chaosd.cli.report", "Tell what a run did, as HTML, JSON, JUnit or Markdown, or compare two."),
    "history": ("chaosd.cli.report", "List the runs of this host."),
    "doctor": ("chaosd.cli.doctor", "Show what this host can do, and what is left over on it."),
    "faults": ("chaosd.cli.library", "List the faults, or show one."),
    "checks": ("chaosd.cli.library", "List what can be measured, or show one check."),
    "scenarios": ("chaosd.cli.scenarios", "List, show or validate scenarios."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            from chaosd.document import near

            ctx.fail(f"no such command {args[0]!r} ({near(args[0], _COMMANDS)})")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chaosd")
def cli() -> None:
    """Fault injection for Linux hosts. Whatever happens, the host is put back as it was.

    Start with `chaosd doctor`, then `chaosd run network-latency --target pid:PID`.
    """


def main() -> None:
    """Entry point: errors that a user can cause are one line, with the documented exit status."""
    from chaosd.errors import ChaosdError

    gc.set_threshold(200_000)  # a start makes many objects and hardly any garbage
    try:
        cli(prog_name="chaosd")
    except ChaosdError as error:
        from chaosd.cli.output import print_error

        print_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
