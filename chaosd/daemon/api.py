"""The API: what can be asked of the daemon. Nothing is decided here that is decided elsewhere."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

# these fill ENDPOINTS
from chaosd.daemon import (  # noqa: F401
    api_about,
    api_library,
    api_metrics,
    api_past,
    api_runs,
    api_series,
    api_web,
)
from chaosd.daemon.endpoint import ENDPOINTS, Daemon, Endpoint, Problem, reply
from chaosd.errors import Exit

_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def application(daemon: Daemon) -> Starlette:
    """The API of a daemon."""
    by_path: dict[str, list[Endpoint]] = {}
    for each in ENDPOINTS:
        by_path.setdefault(each.path, []).append(each)
    app = Starlette(routes=[Route(path, _of_path(found), methods=_ANY) for path, found in by_path.items()])
    app.state.daemon = daemon
    app.add_exception_handler(404, _unknown)
    app.add_exception_handler(Exception, _broken)
    return app


def _of_path(found: list[Endpoint]) -> Any:
    known = {each.method: each for each in found}

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = next((each for name, each in known.items() if name == method), None)
        if endpoint is None:
            said = reply(Problem(f"{request.method} is not for this", ", ".join(known)), 405)
            said.headers["allow"] = ", ".join(known)
            return said
        answered = await endpoint(request)
        answered.headers.update(_SAFE)
        if request.method == "HEAD" and isinstance(answered, StreamingResponse):
            return Response(media_type=answered.media_type)  # what goes on would do so unheard
        return answered

    return answer


async def _unknown(_request: Request, _error: Exception) -> Response:
    return reply(Problem("there is no such thing here", "see /docs"), 404)


async def _broken(_request: Request, error: Exception) -> Response:
    # the server writes the traceback to the log
    return reply(Problem(f"an error in chaosd: {error!r}", "please report it", int(Exit.FAILED)), 500)
