"""Endpoints about the API itself."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from chaosd.daemon.endpoint import Call, endpoint


@endpoint("GET", "/openapi.json", dict[str, Any])
async def description(_: Call) -> dict[str, Any]:
    """This API in OpenAPI 3.1."""
    from chaosd.daemon.openapi import of_all

    return of_all()


@endpoint("GET", "/docs", ("text/html",))
async def docs(_: Call) -> Response:
    """This page."""
    from chaosd.daemon.openapi import of_all
    from chaosd.daemon.page import page

    return Response(page(of_all()), media_type="text/html")
