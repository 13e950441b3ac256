"""The demo's database: SQLite behind a TCP port, one JSON object a line, and its pooled client."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, TCPServer
from typing import Any

from chaosd.demo.resilience import DependencyError
from chaosd.demo.settings import Settings
from chaosd.demo.web import OneThreadEach, cause_of

_SCHEMA = "CREATE TABLE IF NOT EXISTS bookings (id TEXT PRIMARY KEY, room TEXT, guest TEXT, at REAL)"


class Store:
    """The table of bookings, in a file that SQLite flushes to the disk before a write is confirmed."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute(_SCHEMA)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What the database says to one line; ``op`` is ping, insert or list."""
        act = {"ping": self._ping, "insert": self._insert, "list": self._list}.get(str(question.get("op")))
        if act is None:
            return {"error": "op is one of ping, insert, list"}
        with self._lock:
            try:
                return act(question)
            except sqlite3.Error as error:
                return {"error": str(error)}

    def _ping(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"ok": self._db.execute("SELECT 1").fetchone()[0] == 1}

    def _insert(self, question: dict[str, Any]) -> dict[str, Any]:
        # The id comes from the caller, so that a write that is tried again is done once.
        row = [str(question.get(name)) for name in ("id", "room", "guest")]
        self._db.execute("INSERT OR IGNORE INTO bookings VALUES (?, ?, ?, ?)", (*row, time.time()))
        return {"ok": True}

    def _list(self, question: dict[str, Any]) -> dict[str, Any]:
        limit = int(question.get("limit", 20))
        rows = self._db.execute("SELECT id, room, guest FROM bookings ORDER BY at DESC LIMIT ?", (limit,))
        (total,) = self._db.execute("SELECT count(*) FROM bookings").fetchone()
        names = ("id", "room", "guest")
        return {"rows": [dict(zip(names, row, strict=True)) for row in rows], "total": total}


class _Session(StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        if not self.server.slots.acquire(blocking=False):
            self._say({"error": "too many connections"})
            return
        try:
            for line in self.rfile:
                self._say(self.server.store.answer(json.loads(line)))
        except (OSError, ValueError):
            pass  # a client that went away, or does not speak the protocol, is hung up on
        finally:
            self.server.slots.release()

    def _say(self, answer: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(OneThreadEach, TCPServer):
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], store: Store, connections: int) -> None:
        self.store = store
        self.slots = threading.Semaphore(connections)
        super().__init__(address, _Session)


def server(host: str, settings: Settings) -> TCPServer:
    """The database, listening."""
    store = Store(f"{settings.folder}/bookings.db")
    return _Server((host, settings.database_port), store, settings.database_connections)


class _Connection:
    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        self.made = time.monotonic()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._socket.sendall(json.dumps(question).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError("the database hung up")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Pool:
    """At most ``size`` connections, kept open, each used by one thread at a time.

    Args:
        host: address of the database.
        port: its port.
        size: how many connections there may be.
        wait: seconds a caller waits for one to be free.
        timeout: seconds for a connect, and for an answer.
        age: seconds after which a connection is closed instead of used again.
    """

    def __init__(self, host: str, port: int, *, size: int, wait: float, timeout: float, age: float) -> None:
        self.size = size
        self._address, self._wait, self._timeout, self._age = (host, port), wait, timeout, age
        self._free = threading.Semaphore(size)
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self.in_use = 0

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send one line and return the answer.

        Raises:
            DependencyError: no connection free, refused, timed out, or the database said no.
        """
        with self._turn():
            try:
                answer = self._exchange(question)
            except (OSError, ValueError) as error:
                raise DependencyError(cause_of(error), f"database: {error}") from error
        if "error" in answer:
            raise DependencyError("rejected", f"database: {answer['error']}")
        return answer

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._free.acquire(timeout=self._wait):
            raise DependencyError("pool", f"no free connection to the database in {self._wait:g} s")
        with self._lock:
            self.in_use += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_use -= 1
            self._free.release()

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        connection = self._kept() or _Connection(*self._address, self._timeout)
        try:
            answer = connection.ask(question)
        except BaseException:
            connection.close()
            raise
        if "error" in answer:
            connection.close()
            return answer
        with self._lock:
            self._idle.append(connection)
        return answer

    def _kept(self) -> _Connection | None:
        with self._lock:
            young = time.monotonic() - self._age
            old = [connection for connection in self._idle if connection.made < young]
            self._idle = [connection for connection in self._idle if connection.made >= young]
            found = self._idle.pop() if self._idle else None
        for connection in old:
            connection.close()
        return found
