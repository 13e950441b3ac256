"""``daemon``: serve the API."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    "place",
    type=click.Path(dir_okay=False),
    help="Its configuration, if not /etc/chaosd/daemon.yaml.",
)
def daemon(place: str | None) -> None:
    """Serve the API on a Unix socket until SIGTERM; every run is put back first.

    Usually started by systemd: systemctl start chaosd
    """
    from chaosd.daemon import config, server

    server.serve(config.read(Path(place) if place else config.PATH))
