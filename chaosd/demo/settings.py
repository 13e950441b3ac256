"""Every knob of the demo, said once: the fields are the command line of each of its processes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field, fields
from typing import Any


def _knob(default: Any, says: str) -> Any:
    return field(default=default, metadata={"help": says})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All times are seconds. A field ``retry`` that is on by default becomes ``--no-retry``."""

    name: str = _knob("chaosd-demo", "network namespace of the services; the client's adds -client")
    title: str = _knob("demo", "what its processes are called before a dash and the name of the service")
    booking_port: int = _knob(8000, "port of the booking service")
    database_port: int = _knob(5432, "port of the database")
    pms_port: int = _knob(8080, "port of the property-management system")

    names_port: int = _knob(53, "port of the name server")
    names_timeout: float = _knob(0.3, "longest wait for an answer of the name server")
    names_age: float = _knob(1.0, "how long an address is used without asking again")

    retry: bool = _knob(True, "retries with exponential back-off")
    attempts: int = _knob(3, "tries per call, the first one included")
    backoff: float = _knob(0.05, "wait before the first retry; doubles each time")
    backoff_limit: float = _knob(1.0, "longest wait between two tries")
    backoff_jitter: float = _knob(0.1, "random part added to a wait, as a fraction of it")

    breaker: bool = _knob(True, "circuit breaker")
    breaker_window: int = _knob(20, "how many of the last calls the breaker looks at")
    breaker_minimum: int = _knob(10, "calls it must have seen before it may open")
    breaker_threshold: float = _knob(0.5, "share of failed calls, 0 to 1, that opens it")
    breaker_open: float = _knob(2.0, "how long it stays open before it lets a trial through")
    breaker_trials: int = _knob(2, "successful trials that close it again")

    cache: bool = _knob(True, "fallback to the last good answer")
    cache_age: float = _knob(300.0, "oldest answer that still serves as a fallback")

    pool: int = _knob(8, "connections to the database")
    pool_timeout: float = _knob(1.0, "longest wait for a free connection")
    database_timeout: float = _knob(1.0, "longest connect, and longest wait for an answer, of the database")
    pms_timeout: float = _knob(1.0, "longest connect, and longest wait for an answer, of the pms")

    pool_age: float = _knob(60.0, "oldest connection to the database that is used again")
    database_connections: int = _knob(64, "connections the database accepts at a time")
    pms_latency: float = _knob(0.005, "the pms's own time to answer")
    pms_jitter: float = _knob(0.002, "random part added to it")
    pms_availability: float = _knob(1.0, "share of requests, 0 to 1, the pms answers; the rest get 500")

    restart: bool = _knob(True, "starting a service again that has died")
    restart_delay: float = _knob(0.5, "wait before it is started again")

    @property
    def client_name(self) -> str:
        """The network namespace load comes from."""
        return f"{self.name}-client"

    def cgroup(self, service: str) -> str:
        """What the cgroups of a service are called."""
        return f"{self.name}-{service}"

    @property
    def folder(self) -> str:
        """Where the database and the booking service have their files; it goes with the demo."""
        return f"/var/lib/{self.name}.demo"

    def argv(self) -> list[str]:
        """The options that make another process parse these very settings."""
        said: list[str] = []
        for knob in fields(self):
            value = getattr(self, knob.name)
            if value == knob.default:
                continue
            said += [_option(knob.name, knob.default)] + ([] if value is False else [str(value)])
        return said


def _option(name: str, default: object) -> str:
    return ("--no-" if default is True else "--") + name.replace("_", "-")


def add_arguments(parser: ArgumentParser) -> None:
    """One option for each field of ``Settings``."""
    for knob in fields(Settings):
        says = knob.metadata["help"]
        if knob.default is True:
            parser.add_argument(
                _option(knob.name, True), dest=knob.name, action="store_false", help=f"switch off: {says}"
            )
        else:
            kind = type(knob.default)
            parser.add_argument(
                _option(knob.name, knob.default),
                type=kind,
                default=knob.default,
                help=f"{says} ({knob.default})",
            )


def from_arguments(parsed: Namespace) -> Settings:
    """The settings that ``add_arguments`` made argparse collect."""
    return Settings(**{knob.name: getattr(parsed, knob.name) for knob in fields(Settings)})
