"""Endpoints as data: what each takes, answers and asks of its caller, for the router and the schema alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from chaosd.daemon.access import Role, peer_of, role_of
from chaosd.errors import ChaosdError, Exit

LARGEST = 1 << 20
"""Bytes that a request may have."""

_STATUS = {Exit.UNSUPPORTED: 501, Exit.NOT_RESTORED: 500}
_RANK: dict[Role, int] = {"": 0, "read": 1, "act": 2}


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused, and what would be right; ``exit`` is the command's status for it."""

    error: str
    hint: str = ""
    exit: int = int(Exit.REFUSED)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty body."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    Args:
        method, path: as HTTP has them; ``{name}`` in the path is a parameter.
        may: what the caller must be allowed to do.
        summary: one line for the documentation.
        query: parameters behind the question mark, by name, with what they mean.
        body: what is sent along, if anything.
        answer: a type, or the media type of what is no JSON document.
        handler: is given the request and the decoded body.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    may: Literal["read", "act"]
    summary: str
    query: dict[str, str]
    body: type[Any] | None
    answer: Any
    handler: Callable[[Request, Any], Awaitable[Any]]

    async def __call__(self, request: Request) -> Response:
        """Answer a request: check who asks, read the body, and turn what was raised into a status."""
        try:
            _permit(request, self.may)
            for name in request.query_params.keys() - self.query.keys():
                raise ChaosdError(f"no parameter {name!r}", hint=f"one of {', '.join(self.query) or 'none'}")
            answer = await self.handler(request, await self._read(request))
        except DeniedError as denied:
            return reply(Problem(denied.message, denied.hint), denied.status)
        except ChaosdError as error:
            problem = Problem(error.message, error.hint, int(error.exit))
            return reply(problem, _STATUS.get(error.exit, 422))
        return answer if isinstance(answer, Response) else reply(answer)

    async def _read(self, request: Request) -> Any:
        raw = await _body(request)
        if self.body is None:
            return None
        try:
            return msgspec.json.decode(raw or b"{}", type=self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ChaosdError(f"the body is wrong: {error}", hint="see /docs") from None


class DeniedError(ChaosdError):
    """A request that is answered with a status of its own."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


def _permit(request: Request, wanted: Role) -> None:
    peer = peer_of(request.scope)
    role = role_of(peer, request.app.state.config)
    if _RANK[role] < _RANK[wanted]:
        group = request.app.state.config.group
        who = peer.name if peer else "this client"
        raise DeniedError(403, f"{who} may not {wanted}", hint=f"root and members of the group {group} may")


async def _body(request: Request) -> bytes:
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


def reply(data: Any, status: int = 200) -> Response:
    """A JSON document."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")
