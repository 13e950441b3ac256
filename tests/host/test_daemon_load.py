"""Many clients at once, and requests that no client should send: nothing is lost, changed or kept."""

from __future__ import annotations

import json
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import quote, urlencode

import daemonized
import dump
import pytest
import schemathesis
from daemonized import PAUSE, Connection, Daemon
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from world import until

from chaosd import scenario
from chaosd.daemon import api, openapi
from chaosd.daemon.endpoint import LARGEST

CLIENTS = 200
MALFORMED = int(os.environ.get("CHAOSD_MALFORMED", "500"))
GROWTH = 4 << 20  # bytes; of what an allocator keeps after its first thousand requests
DOCUMENTED = {int(status) for status in openapi.of_all()["paths"]["/v1/runs"]["post"]["responses"]}


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon() as made:
        yield made


def memory(daemon: Daemon) -> int:
    """Bytes that the daemon and its processes have to themselves (proc_pid_smaps(5), Pss)."""
    total = 0
    for pid in daemon.family():
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        total += next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def descriptors(daemon: Daemon) -> dict[str, int]:
    """How many are open in each process; the child that waits for a run is another one after each."""
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in daemon.names().items()}


def test_of_many_clients_one_starts_a_run_and_each_gets_an_answer(daemon: Daemon) -> None:
    order = {"text": PAUSE.format(duration="60s"), "target": f"pid:{daemon.sleeper()}"}
    together = Barrier(CLIENTS)

    def client(number: int) -> tuple[int, Any]:
        together.wait()
        if number % 2:
            return daemon.ask("POST", "/v1/runs", order)
        return daemon.ask("GET", ("/v1/status", "/v1/history", "/v1/faults", "/docs")[number // 2 % 4])

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, range(CLIENTS)))
    assert Counter(status for status, _ in answers[::2]) == {200: CLIENTS // 2}
    started = [answer["run"] for status, answer in answers[1::2] if status == 200]
    assert len(started) == 1
    refused = [answer["error"] for status, answer in answers[1::2] if status == 409]
    assert len(refused) == CLIENTS // 2 - 1
    assert all(started[0] in said for said in refused), "who holds the host"
    daemon.post("/v1/stop", {"all": True})
    assert [row["run"] for row in daemon.get("/v1/history")] == started


def test_many_who_follow_one_run_all_see_all_of_it(daemon: Daemon) -> None:
    run = daemon.pause(daemon.sleeper(), "1s")
    with ThreadPoolExecutor(CLIENTS) as pool:
        seen = list(pool.map(lambda _: daemon.read("GET", f"/v1/runs/{run}/events")[1], range(CLIENTS)))
    assert set(seen) == {seen[0]}
    assert json.loads(seen[0].splitlines()[-1])["verdict"] == "passed"


def requests(count: int) -> Iterator[tuple[str, str, bytes]]:
    """Malformed requests, and those that fit the schema and mean nothing: method, path, body."""
    operations = [
        found.ok() for found in schemathesis.openapi.from_dict(openapi.of_all()).get_all_operations()
    ]
    share = count // (2 * len(operations)) + 1
    for operation in operations:
        for mode in (GenerationMode.NEGATIVE, GenerationMode.POSITIVE):
            # what a look at the whole host says, it says for the first few as well as for hundreds
            heavy = operation.path == "/v1/capabilities"
            yield from drawn(operation, mode, min(share, 3) if heavy else share)


def drawn(operation: Any, mode: GenerationMode, count: int) -> list[tuple[str, str, bytes]]:
    found: list[tuple[str, str, bytes]] = []

    @seed(7)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=[*HealthCheck],
        phases=[Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def draw(case: Any) -> None:
        query = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in case.query.items()
        }
        more = "?" + urlencode(query, errors="surrogatepass") if query else ""
        body = case.body
        if not isinstance(body, bytes):
            body = json.dumps(body).encode() if isinstance(body, (dict, list, str, int, float)) else b""
        if not harmful(body):
            found.append(
                (case.method, quote(case.formatted_path, safe="/%", errors="surrogatepass") + more, body)
            )

    try:
        draw()
    except Unsatisfiable:
        return []  # nothing about it can be wrong
    return found


def harmful(body: bytes) -> bool:
    """Whether it asks for what this host is not to be asked while others work on it."""
    return b'"scrub": true' in body


PIECES = ("", "-1", "1e999", ".nan", "{", "[", "*x", "&x ", "!!set ", "\0", "\u2028", "${x}", "9" * 400,
          "null", "0x", "2024-01-01")  # fmt: skip


def mutilated(count: int) -> Iterator[tuple[str, str, bytes]]:
    """Scenarios of the library with pieces cut out, doubled and replaced."""
    texts = [path.read_text("utf-8") for path in scenario.library().values()]
    chance = random.Random(7)
    for _ in range(count):
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 6)):
            start = chance.randrange(len(text))
            end = min(start + chance.randint(0, 12), len(text))
            text = text[:start] + chance.choice([*PIECES, text[start:end] * 2]) + text[end:]
        path = chance.choice(("/v1/scenarios/validate", "/v1/plans", "/v1/suites"))
        yield "POST", path, json.dumps({"text": text, "target": "pid:999999999"}).encode()


def sent(daemon: Daemon, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = Connection(daemon.socket)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        endless = answer.status == 200 and "x-ndjson" in answer.headers["content-type"]
        return answer.status, b"" if endless else answer.read()
    finally:
        connection.close()


def test_no_request_breaks_anything(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    before, counts = dump.process(pid), Counter[int]()
    everything = [*requests(MALFORMED), *mutilated(MALFORMED // 5)]
    warm, after_warming = min(1000, len(everything) // 2), 0
    for number, (method, path, body) in enumerate(everything):
        status, text = sent(daemon, method, path, body)
        counts[status] += 1
        assert status in DOCUMENTED, (method, path, body, status, text)
        assert b"Traceback" not in text
        if status >= 400:
            problem = json.loads(text)
            assert problem.keys() == {"error", "hint", "exit"}, (method, path, body, text)
            assert problem["error"]
        # nothing here can be in the way of putting back, so a 500 would be an error in chaosd
        assert status not in (500, 503, 504), (method, path, body, text)
        if number == warm:
            until(daemon.idle, "children are left", 60)
            after_warming, open_then = memory(daemon), descriptors(daemon)
    print(f"{len(everything)} requests: {dict(counts)}")
    assert counts[422] > len(everything) / 5
    until(daemon.idle, "children are left", 60)
    assert dump.process(pid) == before
    assert not daemon.journals()
    assert daemon.get("/v1/history") == []
    until(daemon.idle, "children are left", 60)
    until(lambda: descriptors(daemon) == open_then, f"{open_then}, and now {descriptors(daemon)}", 10)
    grown = memory(daemon) - after_warming
    print(f"memory grew by {grown / 1024:.0f} KiB from {after_warming / 1024:.0f} KiB")
    assert grown < GROWTH


BROKEN = (
    b"",
    b"\0" * 4000,
    b"GET\r\n\r\n",
    b"GET /v1/status HTTP/9.9\r\n\r\n",
    b"GET /v1/status HTTP/1.1\r\nhost: x\r\nhost: y\r\ncontent-length: -1\r\n\r\n",
    b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{}",
    b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
)


def test_bytes_that_are_no_http_are_refused_or_ignored(daemon: Daemon) -> None:
    for raw in BROKEN:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.settimeout(20)
            end.connect(str(daemon.socket))
            try:
                end.sendall(raw)
                end.shutdown(socket.SHUT_WR)
                answer = end.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
            assert not answer or b" 40" in answer.splitlines()[0] or b" 41" in answer.splitlines()[0], raw[
                :80
            ]
    assert daemon.serves()


def test_bodies_that_are_too_large_or_too_deep(daemon: Daemon) -> None:
    deep = b'{"set": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    for body, wanted in (
        (b'{"text": "' + b"x" * LARGEST + b'"}', 413),
        (deep, 422),
        (json.dumps({"text": "[" * 400_000}).encode(), 422),
        (json.dumps({"text": "a: &a [x]\n" + "b: [*a, *a]\n" * 30_000}).encode(), 422),
        (json.dumps({"text": "x" * 900_000}).encode(), 422),
        (b'{"text": "\xff"}', 422),
        (b'{"text": "\\ud800"}', 422),
    ):
        status, text = sent(daemon, "POST", "/v1/scenarios/validate", body)
        assert status == wanted, (body[:60], status, text[:300])


def test_head_and_methods_that_are_not_there(daemon: Daemon) -> None:
    assert sent(daemon, "HEAD", "/v1/status", b"") == (200, b"")
    assert sent(daemon, "HEAD", "/v1/events", b"")[0] == 200
    answer = daemon.open("DELETE", "/v1/runs/abcdef")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert [each.path for each in api.ENDPOINTS if each.method not in ("GET", "POST")] == []
