"""The demo's property-management system: an outside HTTP API with its own latency and failures."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from http.server import HTTPServer

from chaosd.demo import web
from chaosd.demo.settings import Settings
from chaosd.demo.web import Reply, Request

ROOMS = {"single": 80.0, "double": 120.0, "suite": 250.0}


class Pms:
    """Answers /availability and /price for a ``room``, and /health."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def routes(self) -> web.Routes:
        """The pages of the API."""
        return {
            ("GET", "/availability"): self._availability,
            ("GET", "/price"): self._price,
            ("GET", "/health"): lambda _: Reply(200, {"status": "ok"}),
        }

    def _availability(self, request: Request) -> Reply:
        return self._about(request, lambda room: {"room": room, "free": 10})

    def _price(self, request: Request) -> Reply:
        return self._about(request, lambda room: {"room": room, "price": ROOMS[room]})

    def _about(self, request: Request, tell: Callable[[str], dict[str, object]]) -> Reply:
        settings = self._settings
        time.sleep(settings.pms_latency + random.random() * settings.pms_jitter)  # noqa: S311 - no secret
        if random.random() >= settings.pms_availability:  # noqa: S311 - no secret
            return Reply(500, {"error": "internal error"})
        room = request.query.get("room", "")
        if room not in ROOMS:
            return Reply(404, {"error": f"no room {room!r}"})
        return Reply(200, tell(room))


def server(host: str, settings: Settings) -> HTTPServer:
    """The API, listening."""
    return web.server(host, settings.pms_port, Pms(settings).routes())
