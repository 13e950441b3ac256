"""The command line as a shell and a program meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from chaosd.cli.main import cli


def _leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            yield from _leaves(found, (*path, name))
    else:
        yield " ".join(path), command


LEAVES = dict(_leaves(cli))


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_speaks_json_and_explains_itself(name: str) -> None:
    command = LEAVES[name]
    assert "as_json" in {param.name for param in command.params}
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{name}: {param.opts} has no help"


def _complete(*words: str) -> list[str]:
    env = os.environ | {
        "_CHAOSD_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["chaosd", *words]),
        "COMP_CWORD": str(len(words)),
    }
    code = "from chaosd.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["re"], "revert"),
        (["run", "network-l"], "network-latency"),
        (["inject", "network.d"], "network.delay"),
        (["inject", "network.delay", "ji"], "jitter="),
        (["inject", "network.delay", "--target", "dev"], "dev:"),
        (["inject", "network.delay", "--target", "dev:l"], "dev:lo"),
        (["faults", "show", "cpu."], "cpu.throttle"),
        (["run", "network-latency", "--du"], "--duration"),
    ],
)
def test_the_shell_completes_commands_scenarios_faults_fields_and_targets(
    words: list[str], offers: str
) -> None:
    assert offers in _complete(*words)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['chaosd', '--help']\n"
        "from chaosd.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"pyroute2", "rich", "yaml", "msgspec", "asyncio", "docker", "psutil"}
