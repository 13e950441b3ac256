"""Whether an HTTP server answers as it should, and how fast."""

from __future__ import annotations

import ssl
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from chaosd.checks.base import Check, Failed, PerSecond, Reading, now
from chaosd.errors import ChaosdError
from chaosd.units import Duration

_MOST = 2**20
_NAME = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")]
_VALUE = Annotated[str, Meta(pattern=r"\A[\t\x20-\x7e]*\Z")]


class Url(str):
    """An http or https URL without a password in it."""

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


class Http(Check, frozen=True, kw_only=True):
    """The answer has this ``status``, has ``contains`` in its first MiB, and is there in time.

    Each probe makes a connection of its own. Redirects are not followed; proxies are not used.
    """

    kind: ClassVar[str] = "http"

    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[_NAME, _VALUE] = {}
    body: Annotated[str, Meta(description="sent with the request")] = ""
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    contains: Annotated[str, Meta(description="text the answer must have in it")] = ""
    verify: Annotated[bool, Meta(description="whether the certificate must be good")] = True
    within: Annotated[Duration, Meta(description="longest time to the end of the answer")] = Duration(1)
    rate: PerSecond = 5.0

    def describe(self) -> str:
        """What must hold."""
        having = f" with {self.contains!r}" if self.contains else ""
        return f"{self.method} {self.url} gives {self.status}{having} within {self.within}"

    def measure(self) -> Reading:
        """Ask once."""
        until = now() + self.within
        parts = urlsplit(self.url)
        connection = self._connection(parts)
        try:
            connection.connect()
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            _wait_until(connection, until)
            connection.request(self.method, path, self.body.encode() or None, self.headers)
            response = connection.getresponse()
            text = _read(connection, response, until)
        except RemoteDisconnected:
            raise  # an OSError as well, with words of its own
        except HTTPException as error:
            raise Failed(f"broken answer: {type(error).__name__}") from None
        finally:
            connection.close()
        return self._judge(response.status, text)

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "http":
            return HTTPConnection(host, port, timeout=self.within)
        return HTTPSConnection(host, port, timeout=self.within, context=_context(self.verify))

    def _judge(self, status: int, text: bytes) -> Reading:
        if status != self.status:
            raise Failed(f"status {status}", answered=True)
        if self.contains.encode() not in text:
            raise Failed(f"status {status} without {self.contains!r}", answered=True)
        return Reading(f"status {status}")


@cache  # reading the host's certificates takes longer than many a probe
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
