"""The daemon's API as a client sees it: over its Unix socket, by the standard library alone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from chaosd.errors import ChaosdError, Exit
from chaosd.places import api_socket

_ANSWER_WITHIN = 30.0


class _Connection(HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self) -> None:
        """Connect to the daemon."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_WITHIN)
        self.sock.connect(str(api_socket()))


def serves() -> bool:
    """Whether a daemon answers on this host, and would talk to this user."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        try:
            end.connect(str(api_socket()))
        except OSError:
            return False
    return True


def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the daemon answers.

    Raises:
        ChaosdError: it refused, with its own words, or does not answer.
    """
    with _asked(method, path, body) as answer:
        return json.loads(answer.read())


def events(run: str) -> Iterator[dict[str, Any]]:
    """The records of a live run, from the first to the last, as they are written.

    Raises:
        ChaosdError: there is no such run, or the daemon went away.
    """
    with _asked("GET", f"/v1/runs/{run}/events", None) as answer:
        while line := answer.readline():
            yield json.loads(line)


@contextmanager
def _asked(method: str, path: str, body: dict[str, Any] | None) -> Iterator[HTTPResponse]:
    connection = _Connection("localhost")
    try:
        text = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, text, {"content-type": "application/json"} if text else {})
        answer = connection.getresponse()
        if answer.status >= 400:
            raise _refusal(json.loads(answer.read()))
        assert connection.sock is not None
        connection.sock.settimeout(None)  # a run may say nothing for a while
        yield answer
    except (OSError, HTTPException, ValueError) as error:
        raise ChaosdError(
            f"the daemon at {api_socket()} does not answer: {error}", hint="journalctl -u chaosd"
        ) from None
    finally:
        connection.close()


def _refusal(problem: dict[str, Any]) -> ChaosdError:
    error = ChaosdError(problem["error"], hint=problem.get("hint", ""))
    error.exit = Exit(problem.get("exit", Exit.REFUSED))
    return error


def wanted() -> bool:
    """Whether commands should go through a daemon: one serves, and the user has not said otherwise."""
    return os.environ.get("CHAOSD_ALONE", "") in ("", "0") and serves()
