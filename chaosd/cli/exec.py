"""``exec``: start a command under faults."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli import complete
from chaosd.cli.run import set_option

if TYPE_CHECKING:
    from chaosd.journal import Record
    from chaosd.kernel.launch import Launch
    from chaosd.report.fold import View
    from chaosd.scenario import Scenario

_PATIENCE = 5.0
"""Seconds that a command has to end after a SIGTERM or SIGHUP that was passed on."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
_LONGEST = "30m"  # scenario.LONGEST

_HELP = """Start COMMAND under faults from its first instruction on.

    chaosd exec --fault "syscall.error syscalls=[fsync] errno=EIO budget=3" -- ./server --port 80

    chaosd exec --scenario clock-skew --set offset=+90s -- ./server --port 80

    The faults are lifted when the command ends, or when the duration is over; then it goes on
    without. It has this terminal and these standard streams; chaosd speaks on standard error alone.

    \b
    Exit status: the command's own, or 128 and the number of the signal that ended it. Only if
    the command was never started, or the host was not put back, one of chaosd's:
      2   refused, or the command cannot be started
      5   this host cannot do it
      6   interrupted before the command began, or while it does not end
      10  something could not be put back
    """


@click.command("exec", help=_HELP, context_settings={"allow_interspersed_args": False}, no_args_is_help=True)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARG]...")
@click.option("--fault", "faults", multiple=True, metavar="'FAULT KEY=VALUE ...'",
              help="A fault and its fields, as for chaosd inject; may be given several times.")  # fmt: skip
@click.option("--scenario", "word", metavar="SCENARIO", shell_complete=complete.scenario,
              help="The faults of a scenario instead: a file or a built-in one.")  # fmt: skip
@set_option
@click.option("--duration", metavar="D", help="Lift the faults after so long, such as 30s; at most 30m.")
@click.option("--seed", type=int, help="Seed of every random choice; the same seed, the same choices.")
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON document.")
def command(
    command: tuple[str, ...],
    faults: tuple[str, ...],
    word: str | None,
    settings: dict[str, Any],
    duration: str | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """See ``_HELP``."""
    from chaosd.cli.output import print_error
    from chaosd.errors import ChaosdError

    try:
        path = _program(command[0])
        if bool(word) == bool(faults):
            raise ChaosdError(
                "give either --fault, once or more, or --scenario", hint="see: chaosd exec --help"
            )
        if word:
            scenario = _from_library(word, settings, duration, seed)
        else:
            scenario = _scenario(faults, os.path.basename(command[0]), duration or _LONGEST, seed)
        sys.exit(_Foreground(path, command, as_json).run(scenario))
    except ChaosdError as error:
        print_error(error, as_json=as_json, err=True)
        sys.exit(error.exit)


exec = command  # noqa: A001 - the name by which it is looked up


def _program(word: str) -> str:
    from chaosd.errors import ChaosdError

    path = shutil.which(word)
    if path is None:
        found = os.path.exists(word) and "/" in word
        why = "is not a program that can be run" if found else "there is no such command"
        raise ChaosdError(f"{word}: {why}", hint="words for a shell go to one: sh -c '...'")
    return path


def _scenario(faults: tuple[str, ...], name: str, duration: str, seed: int | None) -> Scenario:
    from chaosd.direct import several

    return several([_fault(text) for text in faults], f"exec {name}", duration, seed)


def _from_library(word: str, settings: dict[str, Any], duration: str | None, seed: int | None) -> Scenario:
    from chaosd.scenario import load

    given = {"duration": duration, "seed": seed}
    return load(word, settings | {key: value for key, value in given.items() if value is not None})


def _fault(text: str) -> tuple[str, dict[str, Any]]:
    from chaosd.cli.value import value
    from chaosd.errors import ChaosdError

    try:
        name, *words = shlex.split(text)
    except ValueError:
        raise ChaosdError(
            f"--fault {text!r} names no fault", hint="such as --fault 'network.delay delay=1s'"
        ) from None
    pairs: list[str] = []
    for word in words:
        if pairs and pairs[-1].count("[") > pairs[-1].count("]"):
            pairs[-1] += f" {word}"  # the list goes on
        elif "=" in word:
            pairs.append(word)
        else:
            raise ChaosdError(f"--fault {text!r}: {word!r} is not KEY=VALUE")
    return name, {key: value(said) for key, _, said in (pair.partition("=") for pair in pairs)}


class _Foreground:
    """The run around a command, which shares the terminal."""

    def __init__(self, path: str, argv: tuple[str, ...], as_json: bool) -> None:
        from chaosd.kernel.launch import Launch
        from chaosd.report.fold import View

        self._name, self._as_json = argv[0], as_json
        self._view: View = View()
        self._launch: Launch = Launch(path, argv)

    def run(self, scenario: Scenario) -> int:
        """Do it; the exit status."""
        from msgspec.structs import replace

        from chaosd.engine import execute

        # What the terminal sends reaches the command, too. Whatever it does about that, the faults end.
        for number in _FROM_TERMINAL[1:]:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            aimed = replace(scenario, target=f"pid:{self._launch.pid}")
            status = execute(aimed, self._show, until=self._launch.pidfd)
            self._check_started()
            self._report()
            return self._wait(int(status)) if self._launch.begun else int(status)
        finally:
            self._launch.close()

    def _show(self, record: Record) -> None:
        self._view.add(record)
        if self._view.phase == "fault":
            self._launch.begin()

    def _check_started(self) -> None:
        from chaosd.errors import ChaosdError

        if self._launch.begun and (number := self._launch.failure()):
            raise ChaosdError(f"{self._name} cannot be started: {os.strerror(number)}")

    def _report(self) -> None:
        if self._as_json:
            from chaosd.cli.output import print_json

            print_json(self._view.brief(), err=True)
            return
        from chaosd.cli import render

        render.on_standard_error()
        render.result(self._view)

    def _wait(self, ours: int) -> int:
        from chaosd.errors import Exit

        wanted = {signal.SIGCHLD, *_PASSED_ON, *_FROM_TERMINAL}
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        until = float("inf")
        if self._view.reason in {f"by {number.name}" for number in _PASSED_ON}:
            until = self._pass_on(signal.Signals[self._view.reason.removeprefix("by ")])
        while (status := self._launch.look()) is None or status < 0:
            if status == -signal.SIGTSTP:
                os.kill(os.getpid(), signal.SIGSTOP)  # the shell that waits for us is to have the terminal
                continue
            left = max(until - time.monotonic(), 0)
            told = signal.sigtimedwait(wanted, min(left, 3600))
            if told is None and not left:
                click.echo(f"chaosd: {self._name} (pid {self._launch.pid}) goes on without faults", err=True)
                return ours or int(Exit.INTERRUPTED)
            if told is not None and told.si_signo in _PASSED_ON:
                until = self._pass_on(told.si_signo)
        return ours if ours == Exit.NOT_RESTORED else status

    def _pass_on(self, number: int) -> float:
        self._launch.send(number)
        return time.monotonic() + _PATIENCE
