"""Endpoints of the dashboard: a page, and the few files that it loads."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from chaosd import report
from chaosd.daemon.endpoint import Call, endpoint
from chaosd.daemon.refusals import DeniedError

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
"""Of the page: nothing inline runs, and nothing comes from elsewhere."""

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HERE = Path(__file__).parent / "web"
_FOLDERS = (_HERE, Path(report.__file__).parent / "assets")
_FILES = {
    path.name: path for folder in _FOLDERS for path in sorted(folder.iterdir()) if path.suffix in _TYPES
}


@endpoint("GET", "/", ("text/html",))
async def dashboard(_: Call) -> Response:
    """The dashboard, for a browser."""
    text = (_HERE / "index.html").read_bytes()
    return Response(text, headers={"content-security-policy": POLICY}, media_type="text/html")


@endpoint("GET", "/web/{file}", tuple(_TYPES.values()))
async def dashboard_file(call: Call) -> Response:
    """A file of the dashboard."""
    path = _FILES.get(call.path["file"])
    if path is None:
        raise DeniedError(404, f"the dashboard has no file {call.path['file']!r}")
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix])
