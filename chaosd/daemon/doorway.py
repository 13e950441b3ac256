"""The dashboard for a browser: a door from loopback to the API's socket, open to who has its key.

A browser cannot open a Unix socket, and any user of a host can connect to a port of loopback. So the
door lets nobody through but the browser that has shown a ticket, which is good once; it gets a key for
it, as a cookie. Cookies go to every port of a host: this one only to a path that nobody else knows, so
that it is never sent to the server of another user. What comes through has the rights of who opened the door.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import h11
import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from chaosd.daemon.endpoint import Problem, reply
from chaosd.daemon.refusals import DeniedError
from chaosd.errors import ChaosdError

_NAMES = ("127.0.0.1", "localhost")
_ASKED = (b"accept", b"content-type")
_OF_A_HOP = (b"connection", b"transfer-encoding", b"date")
_CHUNK = 1 << 16
_WELCOME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={place}">
<link rel="icon" href="data:,"><title>chaosd</title><a href="{place}">To the dashboard</a></html>
"""


class Doorway:
    """An ASGI application that passes on what has its key.

    Args:
        place: the API's Unix socket.
    """

    def __init__(self, place: Path) -> None:
        self.ticket = secrets.token_urlsafe(24)
        self._place = place
        self._room = secrets.token_urlsafe(16)
        self._cookie = f"chaosd-{self._room}"  # no page of another port can put one in its way
        self._key = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except DeniedError as error:
            answer = reply(Problem(error.message, error.hint, int(error.exit)), error.status)
        for name, value in (("referrer-policy", "no-referrer"), ("cache-control", "no-store")):
            answer.headers[name] = value
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        host = request.headers.get("host", "")
        # a name elsewhere can be made to mean this host, and its page would then be of our origin
        if host.rpartition(":")[0] not in _NAMES:
            raise DeniedError(403, f"this is not {host!r}", f"use the address with {_NAMES[0]}")
        path = request.scope["raw_path"].decode("ascii")
        if path == "/" and request.method == "GET":
            return self._admit(request.query_params.get("ticket", ""))
        room, rest = [*path.split("/", 2), "", ""][1:3]
        if not (_same(room, self._room) and _same(request.cookies.get(self._cookie, ""), self._key)):
            raise DeniedError(401, "this browser has no key", "start chaosd dashboard, and use its address")
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin != f"http://{host}":
            raise DeniedError(403, f"a page of {origin} may not act here", "use the dashboard's own page")
        return await self._pass_on(request, f"/{rest}")

    def _admit(self, ticket: str) -> Response:
        if not self.ticket or not _same(ticket, self.ticket):
            raise DeniedError(401, "this address is good once", "start chaosd dashboard anew")
        self.ticket = ""
        # Not a redirect: after one that began elsewhere, such as in a file, a strict cookie is not sent.
        welcome = HTMLResponse(_WELCOME.format(place=f"/{self._room}/"))
        welcome.set_cookie(self._cookie, self._key, path=f"/{self._room}/", httponly=True, samesite="strict")
        return welcome

    async def _pass_on(self, request: Request, path: str) -> Response:
        body = await request.body()
        query = request.scope["query_string"].decode("ascii")
        asked = [pair for pair in request.headers.raw if pair[0] in _ASKED]
        own = [(b"host", b"localhost"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        head = h11.Request(
            method=request.method, target=f"{path}?{query}" if query else path, headers=[*own, *asked]
        )
        speech = h11.Connection(h11.CLIENT)
        said = b"".join(speech.send(part) or b"" for part in (head, h11.Data(body), h11.EndOfMessage()))
        events = _events(self._place, speech, said)
        try:
            answered = await anext(events)
        except (OSError, h11.RemoteProtocolError) as error:
            why = f"the daemon at {self._place} does not answer: {error}"
            raise DeniedError(502, why, "systemctl status chaosd") from None
        assert isinstance(answered, h11.Response)
        found = StreamingResponse(_data(events), answered.status_code)
        found.raw_headers = [
            pair for pair in answered.headers.raw_items() if pair[0].lower() not in _OF_A_HOP
        ]
        return found


async def _events(place: Path, speech: h11.Connection, said: bytes) -> AsyncIterator[h11.Event]:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.setblocking(False)
        await loop.sock_connect(end, str(place))
        with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all is heard
            await loop.sock_sendall(end, said)
        while True:
            event = speech.next_event()
            if event is h11.NEED_DATA:
                speech.receive_data(await loop.sock_recv(end, _CHUNK))
            elif isinstance(event, h11.Event):
                yield event


async def _data(events: AsyncIterator[h11.Event]) -> AsyncIterator[bytes]:
    with suppress(OSError, h11.RemoteProtocolError):  # it has died; the page sees that there is no end
        async for event in events:
            if not isinstance(event, h11.Data):
                return
            yield bytes(event.data)


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def listen(port: int) -> socket.socket:
    """A socket of loopback; 0 is any port that is free.

    Raises:
        ChaosdError: the port is taken, or not for this user.
    """
    try:
        return socket.create_server((_NAMES[0], port))
    except OSError as error:
        raise ChaosdError(f"port {port}: {error.strerror}", hint="--port 0 finds one that is free") from None


def serve(door: Doorway, end: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; pages that are open are let go."""
    config = uvicorn.Config(
        door,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # else it tells of every page that is open at the end
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[end])
