"""A server of the test's own, to which a webhook posts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chaosd.checks.http import Url

Got = list[tuple[dict[str, str], bytes]]


class Server:
    """An HTTP server; ``answers`` has the status of each request to come, the last one for all others."""

    def __init__(self, end: ThreadingHTTPServer) -> None:
        self.got: Got = []
        self.answers = [204]
        self.takes = 0.0
        self.url = Url(f"http://127.0.0.1:{end.server_address[1]}/hook/token")

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(made.takes)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((dict(self.headers), body))
            self.send_response(made.answers.pop(0) if len(made.answers) > 1 else made.answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as end:
        made = Server(end)
        thread = threading.Thread(target=end.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            end.shutdown()
            thread.join()
