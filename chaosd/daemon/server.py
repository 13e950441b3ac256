"""The daemon's life: its sockets, its readiness for systemd, its end with every run put back."""

from __future__ import annotations

import asyncio
import gc
import grp
import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from chaosd.daemon import access, api, api_library, api_metrics, series  # noqa: F401 - series holds deeds
from chaosd.daemon.calendar import Calendar
from chaosd.daemon.config import Config, Metrics
from chaosd.daemon.deeds import DEEDS
from chaosd.daemon.endpoint import Daemon
from chaosd.daemon.meter import Meter
from chaosd.daemon.primate import Primate
from chaosd.daemon.rehearsal import REHEARSALS
from chaosd.daemon.runs import Runs
from chaosd.daemon.webhook import Webhook
from chaosd.daemon.zygote import Zygote
from chaosd.errors import ChaosdError, DiedError
from chaosd.faults.base import registry
from chaosd.kernel import ahead

_GARBAGE = (2000, 10, 10)  # commands are soon over and collect hardly any; this goes on for months
_FIRST_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


def serve(config: Config, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; every run is put back before this returns.

    Args:
        config: where, and for whom.
        ready: called once clients can connect.

    Raises:
        ChaosdError: another daemon has the socket, or it cannot be made.
        DiedError: no engine can be forked any more, which only a daemon that is started anew can mend.
    """
    registry()  # what is imported, and read, now is there in every engine
    api_library.all_scenarios()
    zygote = Zygote(DEEDS, REHEARSALS, ahead.stock)
    gc.set_threshold(*_GARBAGE)
    end, ours = _listen(config)
    try:
        port = _port(config.metrics) if config.metrics else None
        webhook = Webhook(config.webhook) if config.webhook else None
        ready()
        asyncio.run(_serve(config, zygote, webhook, end, port))
        if not zygote.alive():
            raise DiedError("the process that engines are forked from has died, and so every run was ended")
    finally:
        zygote.close()
        if ours:
            Path(config.socket).unlink(missing_ok=True)


async def _serve(
    config: Config, zygote: Zygote, webhook: Webhook | None, end: socket.socket, port: socket.socket | None
) -> None:
    runs = Runs(zygote)
    calendar = Calendar(runs, config.allow)
    monkey = Primate(Path(config.monkey), runs) if config.monkey else None
    meter = Meter(runs, calendar, monkey, webhook)
    app = api.application(Daemon(config, runs, calendar, monkey, meter))
    servers = [_server(app)]
    tasks = [asyncio.create_task(servers[0].serve(sockets=[end]))]
    if config.tcp is not None:
        servers.append(_server(app, config))
        tasks.append(asyncio.create_task(servers[-1].serve()))
    if port is not None:
        servers.append(_server(api_metrics.alone(meter)))
        tasks.append(asyncio.create_task(servers[-1].serve(sockets=[port])))
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    loop.add_reader(zygote.pidfd, over.set)
    notify("READY=1")
    listening = [meter.run(), *([webhook.run(runs.feed)] if webhook else [])]
    told = [asyncio.create_task(each) for each in listening]
    alongside = [asyncio.create_task(each) for each in (_beat(), calendar.run())]
    alongside += [asyncio.create_task(monkey.run())] if monkey else []
    with suppress(asyncio.CancelledError):
        await asyncio.wait([asyncio.create_task(over.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(zygote.pidfd)  # it would be readable for ever
    notify("STOPPING=1")
    for each in alongside:
        each.cancel()
    await runs.close()
    await asyncio.gather(*told)  # to the end of what there was to tell
    for server in servers:
        server.end()
    await asyncio.gather(*tasks)
    if webhook is not None:
        webhook.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._over = asyncio.Event()

    def install_signal_handlers(self) -> None:
        """Signals are the daemon's own."""

    def end(self) -> None:
        """Answer what was asked, and no more."""
        self.should_exit = True
        self._over.set()

    async def main_loop(self) -> None:
        """Look once a second, where uvicorn does ten times: an idle daemon is to cost nothing."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 1.0)


def _server(app: object, config: Config | None = None) -> _Server:
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
            proxy_headers=False,  # who a client is, nobody but the kernel and TLS may say
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


def _port(wanted: Metrics) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ChaosdError(f"metrics on {wanted.host}:{wanted.port}: {error.strerror}") from None


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
