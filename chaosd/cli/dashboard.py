"""``dashboard``: the daemon's dashboard in a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from chaosd.cli.output import print_json

_FORWARDING = """<!doctype html>
<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}"><title>chaosd</title>
"""


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of loopback; any that is free if 0."
)
@click.option("--no-open", is_flag=True, help="Only say the address; open no browser.")
@click.option("--json", "as_json", is_flag=True, help="Say the address as JSON.")
def dashboard(port: int, no_open: bool, as_json: bool) -> None:
    """Open the daemon's dashboard in a browser, and serve it there until Ctrl-C.

    The address is good once: the browser that opens it first may do what you may, and nobody else. From
    afar: ssh -L 7979:127.0.0.1:7979 HOST chaosd dashboard --port 7979
    """
    from chaosd import client
    from chaosd.errors import ChaosdError
    from chaosd.places import api_socket

    if not client.serves():
        who = "or not for you: root and the members of the group chaosd may"
        raise ChaosdError(f"no daemon serves {api_socket()}, {who}", hint="systemctl start chaosd")
    client.ask("GET", "/v1/faults")  # what this user may not, is said here rather than in a browser

    from chaosd.daemon import doorway

    door, end = doorway.Doorway(api_socket()), doorway.listen(port)
    url = f"http://127.0.0.1:{end.getsockname()[1]}/?ticket={door.ticket}"
    if as_json:
        print_json({"url": url})
    else:
        click.echo(f"the dashboard, for one browser, until Ctrl-C:\n\n    {url}\n")
    with _opened(url, not no_open and not as_json):
        doorway.serve(door, end)


@contextmanager
def _opened(url: str, wanted: bool) -> Iterator[None]:
    """Show it in the user's browser, where there is a screen; root does not start one."""
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not wanted or not screen or os.geteuid() == 0:
        yield
        return
    import webbrowser
    from tempfile import NamedTemporaryFile
    from threading import Thread

    # by way of a file, mode 0600: the arguments of a process can be read by everybody
    with NamedTemporaryFile(
        "w", suffix=".html", prefix="chaosd-", dir=os.environ.get("XDG_RUNTIME_DIR")
    ) as page:
        page.write(_FORWARDING.format(url=url))
        page.flush()
        # beside the serving: some browsers are waited for until they end
        Thread(target=webbrowser.open, args=(f"file://{page.name}",), daemon=True).start()
        yield
