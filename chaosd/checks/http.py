"""Whether an HTTP server answers as it should, and how fast."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Annotated, ClassVar, Literal, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from chaosd.checks.base import Check, Failed, Pattern, PerSecond, Reading, now
from chaosd.errors import ChaosdError
from chaosd.units import Duration

_MOST = 2**20
_STATUS = Annotated[int, Meta(ge=100, le=599)]
Header = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")]
"""The name of a header."""
Text = Annotated[str, Meta(pattern=r"\A[\t\x20-\x7e]*\Z")]
"""The value of a header."""


class Url(str):
    """An http or https URL without a password in it."""

    what: ClassVar[str] = "URL"
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check a URL.

        Raises:
            ChaosdError: it is not one.
        """
        try:
            if _good(urlsplit(text)) and text.isascii() and text.isprintable() and " " not in text:
                return cls(text)
        except (ValueError, AttributeError, TypeError):
            pass  # urlsplit's word for a bad port or address; or not a text at all
        raise ChaosdError(f"{text!r} is not a URL", hint="such as http://127.0.0.1:8000/health")


def _good(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    return (
        parts.scheme in ("http", "https")
        and bool(host.encode("idna"))
        and parts.port != 0
        and "@" not in parts.netloc
    )


class Answer(NamedTuple):
    """What a server said: its status and the first MiB of the body."""

    status: int
    body: bytes


class Http(Check, frozen=True, kw_only=True):
    """The answer has this ``status``, and ``contains`` and a match of ``matches`` in its first MiB.

    Each probe makes a connection of its own. Redirects are not followed; proxies are not used.
    """

    kind: ClassVar[str] = "http"

    url: Annotated[Url, Meta(description="what to ask for")]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: Annotated[dict[Header, Text], Meta(description="sent with the request")] = {}
    body: Annotated[str, Meta(description="sent with the request")] = ""
    status: Annotated[
        _STATUS | Annotated[list[_STATUS], Meta(min_length=1)],
        Meta(description="the one, or those, it may have"),
    ] = 200
    contains: Annotated[str, Meta(description="text the answer must have in it")] = ""
    matches: Annotated[Pattern, Meta(description="what must be found in the answer")] = Pattern("")
    verify: Annotated[bool, Meta(description="whether the certificate must be good")] = True
    within: Annotated[Duration, Meta(description="longest time to the end of the answer")] = Duration(1)
    rate: PerSecond = 5.0

    def describe(self) -> str:
        """What must hold."""
        texts = "".join(f" with {text!r}" for text in map(str, (self.contains, self.matches)) if text)
        status = " or ".join(map(str, self._statuses))
        return f"{self.method} {self.url} gives {status}{texts} within {self.within}"

    def prepare(self) -> None:
        """Read the host's certificates, which takes longer than many a probe."""
        if self.url.startswith("https:"):
            _context(self.verify)

    def measure(self) -> Reading:
        """Ask once."""
        answer = fetch(
            self.url,
            method=self.method,
            headers=self.headers,
            body=self.body.encode(),
            within=self.within,
            verify=self.verify,
        )
        said = f"status {answer.status}"
        if answer.status not in self._statuses:
            raise Failed(said, answered=True)
        if self.contains.encode() not in answer.body:
            raise Failed(f"{said} without {self.contains!r}", answered=True)
        if self.matches and not re.search(self.matches, answer.body.decode(errors="replace")):
            raise Failed(f"{said} without a match of {str(self.matches)!r}", answered=True)
        return Reading(said)

    @property
    def _statuses(self) -> list[int]:
        return self.status if isinstance(self.status, list) else [self.status]


def fetch(
    url: str,
    *,
    within: float,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    verify: bool = True,
) -> Answer:
    """Ask a server once, over a connection made for it.

    Args:
        url: http or https.
        within: seconds until the end of the answer.
        method: of the request.
        headers: of the request.
        body: sent with it, if there is one.
        verify: whether the server's certificate must be good.

    Raises:
        Failed: what came is no answer, or broke off.
        OSError: none came; ``TimeoutError`` when it did not come in time.
    """
    until = now() + within
    parts = urlsplit(url)
    connection = _connection(parts, within, verify=verify)
    try:
        connection.connect()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        _wait_until(connection, until)
        connection.request(method, path, body or None, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, _read(connection, response, until))
    except RemoteDisconnected:
        raise  # an OSError as well, with words of its own
    except HTTPException as error:
        raise Failed(f"broken answer: {type(error).__name__}") from None
    finally:
        connection.close()


def _connection(parts: SplitResult, within: float, *, verify: bool) -> HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "http":
        return HTTPConnection(host, port, timeout=within)
    return HTTPSConnection(host, port, timeout=within, context=_context(verify))


@cache
def _context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(connection: HTTPConnection, response: HTTPResponse, until: float) -> bytes:
    text = b""
    while len(text) < _MOST:
        _wait_until(connection, until)
        part = response.read1(65536)
        if not part:
            _whole(response)
            break
        text += part
    return text


def _whole(response: HTTPResponse) -> None:
    # read1() ends quietly at the end of the stream, also before Content-Length is reached.
    if response.length:
        raise Failed(f"the answer broke off, {response.length} bytes short", answered=True)


def _wait_until(connection: HTTPConnection, until: float) -> None:
    left = until - now()
    if left <= 0:
        raise TimeoutError
    if connection.sock is not None:  # gone already when the server announced to close
        connection.sock.settimeout(left)
