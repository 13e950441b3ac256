"""The daemon's life: its sockets, its readiness for systemd, its end with every run put back."""

from __future__ import annotations

import asyncio
import grp
import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from chaosd.daemon import access, api
from chaosd.daemon.config import Config
from chaosd.daemon.deeds import DEEDS
from chaosd.daemon.runs import Runs
from chaosd.daemon.zygote import Zygote
from chaosd.errors import ChaosdError
from chaosd.faults.base import registry

_FIRST_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


def serve(config: Config, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; every run is put back before this returns.

    Args:
        config: where, and for whom.
        ready: called once clients can connect.

    Raises:
        ChaosdError: another daemon has the socket, or it cannot be made.
    """
    registry()  # what is imported now is there in every engine
    zygote = Zygote(DEEDS)
    end, ours = _listen(config)
    ready()
    try:
        asyncio.run(_serve(config, zygote, end))
    finally:
        zygote.close()
        if ours:
            Path(config.socket).unlink(missing_ok=True)


async def _serve(config: Config, zygote: Zygote, end: socket.socket) -> None:
    runs = Runs(zygote)
    app = api.application(config, runs)
    servers = [_server(app)]
    tasks = [asyncio.create_task(servers[0].serve(sockets=[end]))]
    if config.tcp is not None:
        servers.append(_server(app, config))
        tasks.append(asyncio.create_task(servers[1].serve()))
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    notify("READY=1")
    beat = asyncio.create_task(_beat())
    with suppress(asyncio.CancelledError):
        await asyncio.wait([asyncio.create_task(over.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    await runs.stop_all()
    beat.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Signals are the daemon's own."""


def _server(app: object, config: Config | None = None) -> uvicorn.Server:
    tcp = config.tcp if config else None
    security = {}
    if tcp is not None:
        security = {
            "host": tcp.host,
            "port": tcp.port,
            "ssl_certfile": tcp.certificate,
            "ssl_keyfile": tcp.key,
            "ssl_ca_certs": tcp.authority,
            "ssl_cert_reqs": int(ssl.CERT_REQUIRED),
        }
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=access.Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            **security,  # type: ignore[arg-type]
        )
    )


def _listen(config: Config) -> tuple[socket.socket, bool]:
    """The API's socket, from systemd or our own; whether it is ours to remove."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        end = socket.socket(fileno=_FIRST_FD)
        end.set_inheritable(False)
        return end, False
    place = Path(config.socket)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if _answers(place):
        raise ChaosdError(f"another daemon serves {place}", hint="chaosd status")
    place.unlink(missing_ok=True)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    former = os.umask(0o777)
    try:
        end.bind(str(place))
    except OSError as error:
        raise ChaosdError(f"{place}: {error.strerror}") from None
    finally:
        os.umask(former)
    with suppress(KeyError):
        os.chown(place, 0, grp.getgrnam(config.group).gr_gid)
    place.chmod(0o666 if config.readers == "everybody" else 0o660)
    return end, True


def _answers(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(place))
        except OSError:
            return False
    return True


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where it started this process."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, suppress(OSError):
        end.sendto(state.encode(), "\0" + place[1:] if place.startswith("@") else place)


async def _beat() -> None:
    """Say that the loop still turns, twice in each WatchdogSec (sd_watchdog_enabled(3))."""
    every = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    while every:
        notify("WATCHDOG=1")
        await asyncio.sleep(every)
