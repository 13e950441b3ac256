"""How commands speak to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from chaosd.errors import ChaosdError


def print_json(data: object, *, err: bool = False) -> None:
    """Print one JSON document; structs become objects."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(data)).decode(), err=err)


def print_error(error: ChaosdError, *, as_json: bool, err: bool = False) -> None:
    """Say what was wrong, and what would be right; as JSON on standard error too if ``err``."""
    if as_json:
        import json

        data = {"error": error.message, "hint": error.hint, "exit": int(error.exit)}
        click.echo(json.dumps(data), err=err)
        return
    for line in error.message.splitlines():
        click.echo(f"chaosd: {line}", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)
