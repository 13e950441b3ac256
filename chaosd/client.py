"""The daemon's API as a client sees it: over its Unix socket, by the standard library alone.

It speaks just enough HTTP/1.1 for the daemon's own server; ``http.client`` takes a tenth of a second of a
slow machine to import.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import IO, Any

from chaosd.errors import BusyError, ChaosdError, Exit, UnsupportedError
from chaosd.places import api_socket

_ANSWER_WITHIN = 330.0  # over what the daemon gives its own work


class ForbiddenError(ChaosdError):
    """The daemon may not do it, or not for this user."""


class GoneError(ChaosdError):
    """The daemon does not answer, or has died meanwhile."""


_KINDS = {403: ForbiddenError, 409: BusyError, 501: UnsupportedError}


def serves() -> bool:
    """Whether a daemon answers on this host, and would talk to this user."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        try:
            end.connect(str(api_socket()))
        except OSError:
            return False
    return True


def wanted() -> bool:
    """Whether commands should go through a daemon: one serves, and the user has not said otherwise."""
    return os.environ.get("CHAOSD_ALONE", "") in ("", "0") and serves()


def instead() -> bool:
    """Whether only a daemon can do what root may: this user is not root, and one serves."""
    return os.geteuid() != 0 and wanted()


def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the daemon answers, as data.

    Raises:
        ForbiddenError: it may not do it.
        ChaosdError: it refused, with its own words, or does not answer.
    """
    return json.loads(read(method, path, body))


def read(method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    """The same as it comes."""
    with closing(_lines(method, path, body, b"")) as lines:
        return b"".join(lines)


def events(run: str) -> Iterator[dict[str, Any]]:
    """The records of a live run, from the first to the last, as they are written; else as ``follow``."""
    return follow(f"/v1/runs/{run}/events")


def follow(path: str) -> Iterator[dict[str, Any]]:
    """What a stream tells, from the first to the last.

    Raises:
        GoneError: the daemon went away.
        ChaosdError: there is no such thing.
    """
    with closing(_lines("GET", path, None, b"\n")) as lines:
        yield from map(json.loads, lines)


def attend(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Start a run that lasts no longer than its records are read; else as ``events``.

    Args:
        order: as ``orders.Order`` of the daemon.
    """
    with closing(_lines("POST", "/v1/runs/attended", order, b"\n")) as lines:
        yield from map(json.loads, lines)


def named(word: str) -> dict[str, str]:
    """A scenario as the daemon is told of it: a name of its library, or the text of a file.

    Raises:
        ChaosdError: the file cannot be read.
    """
    if not _is_file(word):
        return {"scenario": word}
    try:
        with open(word, encoding="utf-8") as file:
            return {"text": file.read(), "folder": os.path.dirname(os.path.abspath(word))}
    except FileNotFoundError:
        raise ChaosdError(f"no such file: {word}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{word}: cannot be read: {error}") from None


def _is_file(word: str) -> bool:
    """What is a name as well means the library's."""
    if "/" in word or word.endswith((".yaml", ".yml")):
        return True
    if not os.path.isfile(word):
        return False
    from chaosd.scenario import library

    return word not in library()


def single(fault: str, fields: Mapping[str, Any], target: str, **given: Any) -> dict[str, str]:
    """The scenario of one fault, as ``direct.single`` has it, as the daemon is told of it.

    Args:
        fault: its name.
        fields: what is set of it.
        target: what to aim it at.
        given: duration, and maybe seed and on_restart.
    """
    radius = "entire-system" if target == "host" else "service-cluster"
    text = {"name": fault, "faults": [{fault: fields}], "blast_radius": radius, "target": target, **given}
    return {"text": json.dumps(text, default=str), "folder": os.getcwd()}


def _lines(method: str, path: str, body: dict[str, Any] | None, end: bytes) -> Generator[bytes, None, None]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_WITHIN)
            connection.connect(str(api_socket()))
            text = json.dumps(body).encode() if body is not None else b""
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
            connection.sendall(head.encode() + text)
            with connection.makefile("rb") as answer:
                parts = _answer(answer)
                connection.settimeout(None)  # a run may say nothing for a while
                yield from _split(parts, end) if end else parts
    except (OSError, ValueError) as error:
        raise GoneError(
            f"the daemon at {api_socket()} does not answer: {error}", hint="journalctl -u chaosd"
        ) from None


def _answer(answer: IO[bytes]) -> Iterator[bytes]:
    status = int((answer.readline() or _gone()).split()[1])
    fields = {}
    while (line := answer.readline().strip()) and b":" in line:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip().lower()
    chunked = fields.get(b"transfer-encoding") == b"chunked"
    parts = _chunks(answer) if chunked else iter([_whole(answer, int(fields.get(b"content-length", b"0")))])
    if status >= 400:
        raise _refusal(status, json.loads(b"".join(parts)))
    return parts


def _whole(answer: IO[bytes], length: int) -> bytes:
    found = answer.read(length)
    return found if len(found) == length else _gone()


def _chunks(answer: IO[bytes]) -> Iterator[bytes]:
    while size := int(answer.readline() or _gone(), 16):
        yield answer.read(size)
        answer.readline()


def _gone() -> bytes:
    raise ConnectionResetError("it has ended")


def _split(parts: Iterator[bytes], end: bytes) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(end)
        yield from lines


def _refusal(status: int, problem: dict[str, Any]) -> ChaosdError:
    error = _KINDS.get(status, ChaosdError)(problem["error"], hint=problem.get("hint", ""))
    error.exit = Exit(problem.get("exit", Exit.REFUSED))
    return error
