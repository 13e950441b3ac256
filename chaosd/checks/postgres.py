"""Whether a PostgreSQL server takes a session and answers a query."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from chaosd.checks._database import DatabaseCheck
from chaosd.checks.base import Failed, PerSecond, Reading

if TYPE_CHECKING:
    from pg8000.native import Connection


class Postgres(DatabaseCheck, frozen=True, kw_only=True):
    """A session is opened, ``query`` answered, and its first number is as ``expect`` says."""

    kind: ClassVar[str] = "postgres"
    modules: ClassVar[Mapping[str, str]] = {"pg8000": "pip install 'chaosd[databases]'"}

    port: Annotated[int, Meta(ge=1, le=65535)] = 5432
    user: Annotated[str, Meta(min_length=1, description="whom to log in as")] = "postgres"
    database: Annotated[str, Meta(description="by default the one called like the user")] = ""
    query: Annotated[str, Meta(min_length=1, description="what to ask; nothing is rolled back")] = "SELECT 1"
    rate: PerSecond = 2.0

    def describe(self) -> str:
        """What must hold."""
        must = f" with {self.expect}" if self.expect else ""
        return f"postgres {self.host}:{self.port} answers {self.query!r}{must} within {self.within}"

    def prepare(self) -> None:
        """Load the library, which takes longer than many a probe."""
        import pg8000.native  # noqa: F401

    def measure(self) -> Reading:
        """Log in and ask once."""
        from pg8000.exceptions import DatabaseError, InterfaceError

        try:
            connection = self._connect()
            try:
                rows = connection.execute_simple(self.query).rows
            finally:
                connection._usock.close()  # noqa: SLF001 - close() says goodbye, and would wait for it
        except DatabaseError as error:
            raise Failed(_words(error), answered=True) from None
        except InterfaceError as error:
            raise (error.__cause__ if isinstance(error.__cause__, OSError) else Failed(str(error))) from None
        first = rows[0][0] if rows and rows[0] else None
        return self.judge("no rows" if first is None else str(first)[:80], first)

    def _connect(self) -> Connection:
        from pg8000.native import Connection

        context = ssl.create_default_context() if self.tls else False
        return Connection(
            self.user,
            host=None if self.host.startswith("/") else self.host,
            unix_sock=self.host if self.host.startswith("/") else None,
            port=self.port,
            database=self.database or None,
            password=self.password(),
            ssl_context=context,
            timeout=self.within,
            application_name="chaosd",
        )


def _words(error: Exception) -> str:
    # a dictionary of the fields of the server's message, "M" for the words (protocol-error-fields)
    told = error.args[0] if error.args else ""
    return str(told.get("M", told) if isinstance(told, dict) else told)
