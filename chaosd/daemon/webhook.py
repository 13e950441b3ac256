"""Events for a server of the user's: posted one after the other, beside everything else that goes on."""

from __future__ import annotations

import hashlib
import hmac
import queue
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from chaosd import __version__, events
from chaosd.checks.base import Failed
from chaosd.checks.http import fetch
from chaosd.daemon import config
from chaosd.daemon.tape import Record, Tape
from chaosd.errors import ChaosdError
from chaosd.events import Event, Story

MOST = 1000
"""Events that wait for a server that is slow or down; what comes on top of them is dropped."""
WITHIN = 10.0
"""Seconds that the server has for an answer."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between two tries; the last goes on for as long as ``LONGEST``."""
LONGEST = 300.0
"""Seconds for which an event is tried again, from when it happened."""
_AT_THE_END = 2.0
_TAKEN, _TRANSIENT, _BROKEN = range(200, 300), (408, 425, 429), 500


class Webhook:
    """Posts events, signed, each until the server takes it; nobody ever waits for that.

    ``outcomes`` counts those that were delivered, failed or dropped.

    Args:
        wanted: where to, and which.

    Raises:
        ChaosdError: the secret cannot be read.
    """

    def __init__(self, wanted: config.Webhook) -> None:
        self._wanted = wanted
        self._secret = _secret(wanted.secret) if wanted.secret else b""
        self._stories: dict[str, Story] = {}
        self._waiting: queue.Queue[tuple[float, Event] | None] = queue.Queue(MOST)
        self._over = threading.Event()
        self._fails = False
        self.outcomes: Counter[str] = Counter()
        # of its own, and none that the end of the process would wait for
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)

    @property
    def queued(self) -> int:
        """How many events wait."""
        return self._waiting.qsize()

    async def run(self, feed: Tape) -> None:
        """Post what is told of on a feed, to its end."""
        self._thread.start()
        async for record in feed.follow():
            self.add(record)

    def add(self, record: Record) -> None:
        """Post what there is to tell of a record, if that is wanted."""
        event = self._event(record)
        if event is None or (self._wanted.events and event.kind not in self._wanted.events):
            return
        try:
            self._waiting.put_nowait((time.monotonic(), event))
        except queue.Full:
            self.outcomes["dropped"] += 1

    def _event(self, record: Record) -> Event | None:
        if record["type"] == "schedule":
            return events.of_schedule(record)
        if record["type"] == "monkey":
            return events.of_monkey(record)
        run = record.get("run", "")
        story = self._stories.setdefault(run, Story()) if record["type"] == "run" else self._stories.get(run)
        if story is None:
            return None
        if record["type"] == "end":
            del self._stories[run]
        return story.add(record)

    def close(self) -> None:
        """Give what waits a moment to be sent."""
        self._over.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(_AT_THE_END)

    def _work(self) -> None:
        while (found := self._waiting.get()) is not None:
            since, event = found
            outcome = "delivered" if self._deliver(event, since + LONGEST) else "failed"
            self.outcomes[outcome] += 1

    def _deliver(self, event: Event, until: float) -> bool:
        headers, body = self._letter(event)
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            why, again = self._post(headers, body)
            self._say(why)
            if not why:
                return True
            if not again or time.monotonic() + pause > until or self._over.wait(pause):
                break
        return False

    def _letter(self, event: Event) -> tuple[dict[str, str], bytes]:
        number = str(uuid.uuid4())  # the same at each try
        said = {"id": number, "host": socket.gethostname(), "version": __version__}
        body = msgspec.json.encode(said | msgspec.to_builtins(event))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"chaosd/{__version__}",
            "X-Chaosd-Event": event.kind,
            "X-Chaosd-Delivery": number,
        }
        if self._secret:
            digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers["X-Chaosd-Signature-256"] = f"sha256={digest}"
        return headers, body

    def _post(self, headers: dict[str, str], body: bytes) -> tuple[str, bool]:
        """Try once: why it was not taken, if it was not, and whether it may be another time."""
        try:
            answer = fetch(self._wanted.url, within=WITHIN, method="POST", headers=headers, body=body)
        except (OSError, Failed) as error:
            return str(error) or "no answer in time", True
        if answer.status in _TAKEN:
            return "", False
        return f"status {answer.status}", answer.status in _TRANSIENT or answer.status >= _BROKEN

    def _say(self, why: str) -> None:
        """Tell the log when it begins to fail, and when it works again."""
        if bool(why) != self._fails:
            self._fails = bool(why)
            host = urlsplit(self._wanted.url).hostname  # what comes after it may be a secret
            sys.stderr.write(f"webhook at {host}: {why or 'works again'}\n")
            sys.stderr.flush()


def _secret(place: str) -> bytes:
    try:
        text = Path(place).read_bytes().strip()
    except OSError as error:
        raise ChaosdError(f"{place}: the secret of the webhook cannot be read: {error.strerror}") from None
    if not text:
        raise ChaosdError(f"{place}: the secret of the webhook is empty", hint="openssl rand -hex 32")
    return text
