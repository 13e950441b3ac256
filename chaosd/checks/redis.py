"""Whether a Redis server answers a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, field

from chaosd.checks._database import DatabaseCheck
from chaosd.checks.base import Failed, PerSecond, Reading

if TYPE_CHECKING:
    from redis import Redis as Client


class Redis(DatabaseCheck, frozen=True, kw_only=True):
    """``command`` is answered without an error, and the number in the answer is as ``expect`` says."""

    kind: ClassVar[str] = "redis"
    modules: ClassVar[Mapping[str, str]] = {"redis": "pip install 'chaosd[databases]'"}

    port: Annotated[int, Meta(ge=1, le=65535)] = 6379
    database: Annotated[int, Meta(ge=0, description="its number")] = 0
    command: Annotated[
        list[str], Meta(min_length=1, description="such as [LLEN, jobs], whose answer is a number")
    ] = field(default_factory=lambda: ["PING"])
    rate: PerSecond = 2.0

    def describe(self) -> str:
        """What must hold."""
        must = f" with {self.expect}" if self.expect else ""
        return f"redis {self.host}:{self.port} answers {' '.join(self.command)}{must} within {self.within}"

    def prepare(self) -> None:
        """Load the library, which takes longer than many a probe."""
        import redis  # noqa: F401

    def measure(self) -> Reading:
        """Connect and ask once."""
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as TooLate

        try:
            with self._client() as client:
                client.response_callbacks.clear()  # which make True of PONG
                answer = client.execute_command(*self.command)
        except TooLate:
            raise TimeoutError from None
        except RedisError as error:
            cause = error.__context__
            raise (cause if isinstance(cause, OSError) else Failed(str(error), answered=True)) from None
        said = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
        return self.judge(said[:80], said)

    def _client(self) -> Client:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        path = self.host if self.host.startswith("/") else None
        return redis.Redis(
            host=self.host,
            port=self.port,
            unix_socket_path=path,
            db=self.database,
            username=self.user or None,
            password=self.password(),
            ssl=self.tls,
            socket_timeout=self.within,
            socket_connect_timeout=self.within,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
            protocol=2,
        )
