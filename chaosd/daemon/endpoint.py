"""Endpoints as data: what each takes, answers and asks of its caller, for the router and the schema alike."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from chaosd.daemon.access import Peer, Role, peer_of, role_of
from chaosd.daemon.calendar import Calendar
from chaosd.daemon.config import Config
from chaosd.daemon.meter import Meter
from chaosd.daemon.primate import Primate
from chaosd.daemon.refusals import DeniedError, status_of
from chaosd.daemon.runs import Runs
from chaosd.daemon.tape import Record
from chaosd.errors import ChaosdError, Exit

LARGEST = 1 << 20
"""Bytes that a request may have."""

LINES, FRAMES = "application/x-ndjson", "text/event-stream"

_ID = "5e6ca6"
PATTERNS = {"run": "^[0-9a-f]{6}$", "suite": "^[0-9a-f]{6}$"}
"""What is asked of values in a path, by the name of the parameter."""

_RANK: dict[Role, int] = {"": 0, "read": 1, "act": 2}


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused, and what would be right; ``exit`` is the command's status for it."""

    error: str
    hint: str = ""
    exit: int = int(Exit.REFUSED)


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


@dataclass
class Daemon:
    """What handlers work with."""

    config: Config
    runs: Runs
    calendar: Calendar
    monkey: Primate | None
    meter: Meter


@dataclass
class Call:
    """A request that is permitted and well formed."""

    daemon: Daemon
    path: dict[str, str]
    query: Any
    body: Any
    accepts: str
    peer: Peer | None

    def stream(self, records: AsyncIterator[Record]) -> Response:
        """An answer that goes on, one JSON document a line, or as server-sent events if those are wanted."""
        framed = FRAMES in self.accepts
        parts = _framed(records, b"data: ", b"\n\n") if framed else _framed(records, b"", b"\n")
        return StreamingResponse(parts, media_type=FRAMES if framed else LINES)


Handler = Callable[[Call], Awaitable[Any]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    Args:
        method, path: as HTTP has them; ``{name}`` in the path is a parameter.
        may: what the caller must be allowed to do.
        summary: one line for the documentation.
        query: parameters behind the question mark.
        body: what is sent along, if anything.
        answer: a type, or the media types of what is no JSON document.
        handler: is given the call.
    """

    method: Literal["GET", "POST"]
    path: str
    may: Literal["read", "act"]
    summary: str
    query: type[msgspec.Struct]
    body: type[msgspec.Struct] | None
    answer: Any
    handler: Handler

    async def __call__(self, request: Request) -> Response:
        """Answer a request: check who asks, read what was sent, and turn what is raised into a status."""
        try:
            daemon = request.app.state.daemon
            peer = _permit(request, self.may, daemon.config)
            query, body = self._query(request), await self._body(request)
            _check_path(request.path_params)
            accepts = request.headers.get("accept", "")
            answer = await self.handler(Call(daemon, request.path_params, query, body, accepts, peer))
        except ChaosdError as error:
            return reply(Problem(error.message, error.hint, int(error.exit)), status_of(error))
        return answer if isinstance(answer, Response) else reply(answer)

    def _query(self, request: Request) -> Any:
        try:
            return msgspec.convert(dict(request.query_params), self.query, strict=False)
        except msgspec.ValidationError as error:
            raise ChaosdError(f"the query is wrong: {error}", hint="see /docs") from None

    async def _body(self, request: Request) -> Any:
        raw = await _read(request)
        if self.body is None:
            return None
        try:
            return msgspec.json.decode(raw or b"{}", type=self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ChaosdError(f"the body is wrong: {error}", hint="see /docs") from None


ENDPOINTS: list[Endpoint] = []


def endpoint(
    method: Literal["GET", "POST"],
    path: str,
    answer: Any,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] = NoQuery,
    may: Literal["read", "act"] | None = None,
) -> Callable[[Handler], Handler]:
    """Make a function the handler of an endpoint, see ``Endpoint``; its docstring is the summary."""

    def made(handler: Handler) -> Handler:
        ENDPOINTS.append(
            Endpoint(
                method=method,
                path=path,
                may=may or ("read" if method == "GET" else "act"),
                summary=(handler.__doc__ or "").partition("\n")[0],
                query=query,
                body=body,
                answer=answer,
                handler=handler,
            )
        )
        return handler

    return made


def _permit(request: Request, wanted: Role, config: Config) -> Peer | None:
    origin = request.headers.get("origin")
    if request.method == "POST" and origin and urlsplit(origin).netloc != request.headers.get("host"):
        # a browser with a certificate shows it whoever's page has it ask
        raise DeniedError(403, f"a page of {origin} may not act here", "use the dashboard's own page")
    peer = peer_of(request.scope)
    if _RANK[role_of(peer, config)] < _RANK[wanted]:
        who = peer.name if peer else "this client"
        raise DeniedError(403, f"{who} may not {wanted}", f"root and members of the group {config.group} may")
    return peer


def _check_path(values: dict[str, str]) -> None:
    for name, pattern in PATTERNS.items():
        if name in values and not re.fullmatch(pattern, values[name]):
            raise DeniedError(404, f"{values[name]!r} is not the id of a {name}", f"such as {_ID}")


async def _read(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > LARGEST:
                raise DeniedError(413, f"the body is over {LARGEST} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise DeniedError(400, "the body ends too early") from None
    return b"".join(parts)


async def _framed(records: AsyncIterator[Record], before: bytes, after: bytes) -> AsyncIterator[bytes]:
    async for record in records:
        yield before + msgspec.json.encode(record) + after


def reply(data: Any, status: int = 200) -> Response:
    """A JSON document."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")
