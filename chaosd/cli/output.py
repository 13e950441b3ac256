"""How commands speak to programs."""

from __future__ import annotations

import click


def print_json(data: object) -> None:
    """Print one JSON document; structs become objects."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(data)).decode())
