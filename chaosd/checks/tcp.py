"""Whether a TCP port takes connections."""

from __future__ import annotations

import socket
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.checks.base import Check, PerSecond, Reading


class Tcp(Check, frozen=True, kw_only=True):
    """A connection to ``host`` and ``port`` is made within the time, then closed."""

    kind: ClassVar[str] = "tcp"

    host: Annotated[str, Meta(min_length=1, max_length=253, description="name or address")]
    port: Annotated[int, Meta(ge=1, le=65535)]
    rate: PerSecond = 5.0

    def describe(self) -> str:
        """What must hold."""
        return f"tcp {self.host}:{self.port} connects within {self.within}"

    def measure(self) -> Reading:
        """Connect once."""
        try:
            socket.create_connection((self.host, self.port), timeout=self.within).close()
        except UnicodeError as error:  # a name that is no name at all
            raise OSError(f"{self.host!r}: {error}") from None
        return Reading("connected")
