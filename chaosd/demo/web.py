"""A small threaded HTTP/1.1 server of JSON handlers, and the call that asks one."""

from __future__ import annotations

import _thread
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chaosd.demo.resilience import DependencyError


@dataclass(frozen=True)
class Request:
    """What a handler is given; ``body`` is the parsed JSON object, empty when there is none."""

    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """``body`` is sent as text when it is a string, else as JSON."""

    status: int
    body: Any


Handler = Callable[[Request], Reply]
Routes = dict[tuple[str, str], Handler]


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment
    timeout = 30
    routes: Routes

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        try:
            self._send(self._reply(method))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the caller gave up waiting

    def _reply(self, method: str) -> Reply:
        parts = urlsplit(self.path)
        try:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
        except ValueError:
            return Reply(400, {"error": "the body is not JSON"})
        if not isinstance(body, dict):
            return Reply(400, {"error": "the body is not a JSON object"})
        handler = self.routes.get((method, parts.path))
        if handler is None:
            return Reply(404, {"error": f"no {method} {parts.path}"})
        return handler(Request(parts.path, dict(parse_qsl(parts.query)), body))

    def _send(self, reply: Reply) -> None:
        text = isinstance(reply.body, str)
        body = (reply.body if text else json.dumps(reply.body)).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "text/plain; version=0.0.4" if text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class OneThreadEach(ThreadingMixIn):
    """A server with a thread for each connection, which outlives threads that end badly."""

    daemon_threads = True
    request_queue_size = 256

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread; Thread.start() would wait for ever for one that dies at once."""
        _thread.start_new_thread(self.process_request_thread, (request, client_address))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked sees it, and under a fault it would be said a thousand times."""


class _Server(OneThreadEach, HTTPServer):
    pass


def server(host: str, port: int, routes: Routes) -> HTTPServer:
    """A server that listens; ``serve_forever`` is the caller's to call."""
    return _Server((host, port), type("Exchange", (_Exchange,), {"routes": routes}))


def ask(host: str, port: int, path: str, timeout: float) -> Any:
    """GET a JSON document over a new connection.

    Raises:
        DependencyError: refused, reset, timed out, or a status other than 200.
    """
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise DependencyError(f"status_{response.status}", f"{host}:{port} answered {response.status}")
        return json.loads(body)
    except (OSError, HTTPException, ValueError) as error:
        raise DependencyError(cause_of(error), f"{host}:{port}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def cause_of(error: Exception) -> str:
    """One word for a transport error: timeout, refused, reset, unreachable or broken."""
    known = ((TimeoutError, "timeout"), (ConnectionRefusedError, "refused"), (ConnectionError, "reset"))
    for kind, word in known:
        if isinstance(error, kind):
            return word
    return "unreachable" if isinstance(error, OSError) else "broken"
