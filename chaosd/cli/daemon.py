"""``daemon``: serve the API."""

from __future__ import annotations

from pathlib import Path

import click

from chaosd.cli.output import print_json


@click.command()
@click.option(
    "--config",
    "place",
    type=click.Path(dir_okay=False),
    help="Its configuration, if not /etc/chaosd/daemon.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it serves as JSON.")
def daemon(place: str | None, as_json: bool) -> None:
    """Serve the API on a Unix socket until SIGTERM; every run is put back first.

    Usually started by systemd: systemctl start chaosd
    """
    from chaosd.daemon import config, server

    found = config.read(Path(place) if place else config.PATH)

    def tell() -> None:
        tcp = f"{found.tcp.host}:{found.tcp.port}" if found.tcp else None
        metrics = f"http://{found.metrics.host}:{found.metrics.port}/metrics" if found.metrics else None
        if as_json:
            print_json({"socket": found.socket, "tcp": tcp, "metrics": metrics})
        else:
            click.echo(f"chaosd serves {' and '.join(filter(None, (found.socket, tcp, metrics)))}")

    server.serve(found, tell)
