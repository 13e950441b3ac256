"""Metrics: an endpoint of the API, and a port of their own on which there is nothing else."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chaosd.daemon.endpoint import Call, endpoint
from chaosd.daemon.meter import Meter


@endpoint("GET", "/metrics", ("text/plain", "application/openmetrics-text"))
async def metrics(call: Call) -> Response:
    """Figures for Prometheus, in the format that it asks for."""
    return await _answer(call.daemon.meter, call.accepts)


def alone(meter: Meter) -> Starlette:
    """An application that tells metrics, to whoever asks."""

    async def tell(request: Request) -> Response:
        return await _answer(meter, request.headers.get("accept", ""))

    return Starlette(routes=[Route("/metrics", tell)])


async def _answer(meter: Meter, accepts: str) -> Response:
    text, kind = await meter.text(accepts)
    return Response(text, media_type=kind)
