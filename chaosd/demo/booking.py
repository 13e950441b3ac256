"""The demo's booking service: takes bookings, asks the pms, writes to the database, copes when they fail."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from typing import Any
from urllib.parse import quote

from chaosd.demo import hostwork, metrics, web
from chaosd.demo.database import Pool
from chaosd.demo.names import Resolver
from chaosd.demo.pms import ROOMS
from chaosd.demo.resilience import CLOSED, HALF_OPEN, OPEN, Backoff, Breaker, Cache, DependencyError, Guard
from chaosd.demo.settings import Settings
from chaosd.demo.web import Reply, Request


def guard(name: str, settings: Settings) -> Guard:
    """Retry, breaker and cache for one dependency, as the settings have them."""
    backoff = Backoff(settings.attempts, settings.backoff, settings.backoff_limit, settings.backoff_jitter)
    breaker = Breaker(
        name,
        window=settings.breaker_window,
        minimum=settings.breaker_minimum,
        threshold=settings.breaker_threshold,
        open_for=settings.breaker_open,
        trials=settings.breaker_trials,
    )
    return Guard(
        name,
        backoff=backoff if settings.retry else None,
        breaker=breaker if settings.breaker else None,
        cache=Cache(settings.cache_age) if settings.cache else None,
    )


class Booking:
    """The service behind its HTTP pages.

    Args:
        settings: timeouts, and what is switched on.
        database: address of the database.
        pms: name of the property-management system.
        server: address of the name server.
    """

    def __init__(self, settings: Settings, database: str, pms: str, server: str) -> None:
        self._settings, self._pms_name = settings, pms
        self._names = Resolver(
            (server, settings.names_port), timeout=settings.names_timeout, age=settings.names_age
        )
        self._pool = Pool(
            database,
            settings.database_port,
            size=settings.pool,
            wait=settings.pool_timeout,
            timeout=settings.database_timeout,
            age=settings.pool_age,
        )
        self.database, self.pms, self.host = (guard(name, settings) for name in ("database", "pms", "host"))
        self._guards = (self.database, self.pms, self.host)
        self._requests = metrics.Requests()
        self._started = time.time()

    def routes(self) -> web.Routes:
        """The pages of the service; all but /metrics and /state are counted."""
        counted = {
            ("GET", "/health"): self._health,
            ("GET", "/ready"): self._ready,
            ("GET", "/quote"): self._quote,
            ("GET", "/bookings"): self._list,
            ("POST", "/bookings"): self._create,
            ("GET", "/receipt"): self._receipt,
            ("GET", "/report"): self._report,
        }
        own: web.Routes = {
            ("GET", "/metrics"): lambda _: Reply(200, "\n".join(self._metrics()) + "\n"),
            ("GET", "/state"): lambda _: Reply(200, self.state()),
        }
        return {route: self._counting(page) for route, page in counted.items()} | own

    def state(self) -> dict[str, Any]:
        """What /state shows: switches, breakers, retries, fallbacks and the pool."""
        return {
            "status": self._status(),
            "uptime_s": round(time.time() - self._started, 3),
            "dependencies": {guard.name: guard.state() for guard in self._guards},
            "pool": {"size": self._pool.size, "in_use": self._pool.in_use},
        }

    def _counting(self, page: web.Handler) -> web.Handler:
        def counted(request: Request) -> Reply:
            began = time.monotonic()
            try:
                reply = page(request)
            except DependencyError as error:
                reply = Reply(503, {"error": str(error), "cause": error.cause})
            self._requests.add(request.path, reply.status, time.monotonic() - began)
            return reply

        return counted

    def _status(self) -> str:
        breakers = [guard.breaker for guard in self._guards if guard.breaker]
        return "ok" if all(breaker.state == CLOSED for breaker in breakers) else "degraded"

    def _health(self, _: Request) -> Reply:
        return Reply(200, {"status": self._status()})

    def _ready(self, _: Request) -> Reply:
        self._pool.ask(op="ping")
        return Reply(200, {"status": self._status()})

    def _quote(self, request: Request) -> Reply:
        room = request.query.get("room", "double")
        if room not in ROOMS:
            return Reply(400, {"error": f"room is one of {', '.join(ROOMS)}"})
        answer = self.pms.call(self._asking("price", room), f"price {room}")
        return Reply(200, {**answer.value, "source": answer.source})

    def _list(self, _: Request) -> Reply:
        answer = self.database.call(lambda: self._pool.ask(op="list"), "list")
        return Reply(200, {**answer.value, "source": answer.source})

    def _create(self, request: Request) -> Reply:
        room, guest = request.body.get("room"), request.body.get("guest")
        if room not in ROOMS or not isinstance(guest, str) or not guest:
            return Reply(400, {"error": f"room is one of {', '.join(ROOMS)}; guest is a name"})
        free = self.pms.call(self._asking("availability", room), f"availability {room}")
        if free.value["free"] < 1:
            return Reply(409, {"error": f"no {room} is free"})
        number = uuid.uuid4().hex
        self.database.call(lambda: self._pool.ask(op="insert", id=number, room=room, guest=guest))
        return Reply(201, {"id": number, "room": room, "guest": guest, "availability": free.source})

    def _receipt(self, _: Request) -> Reply:
        answer = self.host.call(lambda: hostwork.receipt(self._settings.folder), "receipt")
        return Reply(200, {**answer.value, "source": answer.source})

    def _report(self, request: Request) -> Reply:
        ms = request.query.get("ms", "20")
        if not ms.isdecimal() or int(ms) > 5000:
            return Reply(400, {"error": "ms is how much computing it takes, 0 to 5000"})
        read = hostwork.read_ledger(self._settings.folder)
        hostwork.compute(int(ms) / 1000)
        return Reply(200, {"computed_ms": int(ms), "read_bytes": read})

    def _asking(self, page: str, room: str) -> Callable[[], Any]:
        settings = self._settings
        path = f"/{page}?room={quote(room)}"

        def ask() -> Any:
            try:
                address = self._names.address(self._pms_name)
            except OSError as error:
                raise DependencyError("name", f"{self._pms_name}: {error}") from error
            return web.ask(address, settings.pms_port, path, settings.pms_timeout)

        return ask

    def _metrics(self) -> Iterator[str]:
        yield from self._requests.lines()
        yield from metrics.lines(_of_guard(*self._guards))
        used = [({"dependency": "database"}, float(self._pool.in_use))]
        yield from metrics.lines([("demo_pool_in_use", "gauge", "Connections in use.", used)])


def _of_guard(*guards: Guard) -> Iterator[metrics.Series]:
    def by_name(what: str) -> list[tuple[metrics.Labels, float]]:
        return [({"dependency": each.name}, float(getattr(each.counts, what))) for each in guards]

    for what in ("calls", "attempts", "retries", "rejected", "fallbacks"):
        yield (
            f"demo_dependency_{what}_total",
            "counter",
            f"{what.capitalize()} since the start.",
            by_name(what),
        )
    failures = [
        ({"dependency": each.name, "cause": cause}, float(count))
        for each in guards
        for cause, count in sorted(each.counts.failures.copy().items())
    ]
    yield "demo_dependency_failures_total", "counter", "Failed attempts, by cause.", failures
    level = {CLOSED: 0.0, HALF_OPEN: 1.0, OPEN: 2.0}
    states = [({"dependency": each.name}, level[each.breaker.state]) for each in guards if each.breaker]
    yield "demo_breaker_state", "gauge", "0 closed, 1 half-open, 2 open.", states
    moves = [
        ({"dependency": each.name, "to": state}, float(count))
        for each in guards
        if each.breaker
        for state, count in each.breaker.entered.items()
    ]
    yield "demo_breaker_transitions_total", "counter", "Changes of the breaker's state.", moves


def server(host: str, settings: Settings, database: str, pms: str, names: str) -> HTTPServer:
    """The service, listening."""
    return web.server(host, settings.booking_port, Booking(settings, database, pms, names).routes())
