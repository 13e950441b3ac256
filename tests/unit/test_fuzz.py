"""No document and no threshold makes the parsers do anything but answer.

``CHAOSD_EXAMPLES=100000`` tries that many of each; what stands here takes a quarter of a minute.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaosd.checks.base import registry as checks
from chaosd.checks.figures import OPERATORS
from chaosd.checks.threshold import METRICS, Threshold, figures
from chaosd.errors import ChaosdError
from chaosd.faults.base import registry as faults
from chaosd.scenario import Scenario, library, parse

MANY = int(os.environ.get("CHAOSD_EXAMPLES", "0"))
_UNLIMITED = pytest.mark.timeout(3600 if MANY else 120)

# What changes anything outside of this process, or asks another one to (Python's table of audit events)
_DEEDS = (
    "subprocess",
    "os.",
    "socket.",
    "shutil.",
    "signal.",
    "ctypes.",
    "fcntl.",
    "syslog.",
    "pty.",
    "mmap.",
)
_LOOKS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
_seen: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or (event.startswith(_DEEDS) and event not in _LOOKS):
        _seen.append(f"{event}{arguments}")


sys.addaudithook(_audit)


@contextmanager
def nothing_is_done() -> Iterator[None]:
    """Inside, no file is opened for writing, and no process, socket or system call is asked for anything."""
    global _seen
    _seen = deeds = []
    try:
        yield
    finally:
        _seen = None
    assert not deeds


def test_a_deed_would_be_seen(tmp_path: Any) -> None:
    with pytest.raises(AssertionError, match="open"), nothing_is_done():
        (tmp_path / "x").write_text("x")
    with pytest.raises(AssertionError, match=r"os\.kill"), nothing_is_done():
        os.kill(os.getpid(), 0)


def _near_valid() -> list[dict[str, Any]]:
    found = [yaml.safe_load(path.read_text("utf-8")) for path in library().values()]
    every = {
        "command": {"argv": ["true"], "user": "nobody"},
        "dns": {"query": "a.b", "server": "127.0.0.1", "type": "MX", "answer": ["x"]},
        "host": {"expect": ["load1 < 8", "psi.io.full < 10%", "disk.free.bytes > 1GiB"], "path": "/"},
        "http": {"url": "http://h/", "status": [200, 204], "matches": "a|b", "headers": {"a": "b"}},
        "log": {"file": "/x", "matches": "ERROR", "expect": "present"},
        "postgres": {"host": "/run", "query": "SELECT 1", "expect": "< 5", "password_file": "/x"},
        "process": {"of": "comm:x", "expect": ["rss < 1GiB"]},
        "prometheus": {"url": "http://h:1", "query": "up", "expect": "== 1", "series": "max"},
        "redis": {"host": "h", "command": ["LLEN", "x"], "expect": "< 5"},
        "tcp": {"host": "h", "port": 1, "within": "1s", "rate": 3, "netns": "target", "name": "t"},
    }
    assert every.keys() == checks().keys()
    for name, fields in every.items():
        found.append(
            {
                "name": "x",
                "duration": "10s",
                "faults": [{"cpu.throttle": {"percent": "${p}"}}],
                "parameters": {"p": "20%"},
                "steady_state": [{name: fields}],
                "observe": [{"tcp": {"name": "other", "host": "h", "port": 2}}],
                "abort_when": ["load1 > 8", "other.p95 > 1s for 2s", "error_rate > 40%"],
                "recover_within": "1m",
                "seed": 3,
            }
        )
    return found


_NEAR_VALID = _near_valid()
_WORDS = sorted(
    {
        *Scenario.__struct_fields__,
        *faults(),
        *checks(),
        *(field for kind in (*faults().values(), *checks().values()) for field in kind.__struct_fields__),
        *METRICS,
        *figures(),
    }
)
_ODD = (
    *("", "0", "-1", "10s", "1e999s", "20%", "101%", "64MiB", "10mbit", "${p}", "${q}", "pid:1", "host"),
    *("netns:", "/", "/a\0b", "http://[", "http://h:99999/", "(", "(?P<a>x)(?P=b)", "a{999999}", "~", "é"),
    *("p95 > 1s", "x.p95 > 1s", "load1 > nan", "psi. > 1", "< 5", "<", "9" * 400, "9" * 5000, "\ud800"),
)
_junk = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from(_ODD),
    st.text(max_size=8),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.booleans(),
    st.none(),
    st.just([]),
    st.just({}),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document with every key or index of it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def _drop(where: Any, key: Any, junk: Any) -> None:
    del where[key]


def _put(where: Any, key: Any, junk: Any) -> None:
    where[key] = junk


def _rename(where: Any, key: Any, junk: Any) -> None:
    if isinstance(where, dict):
        where[str(junk)] = where.pop(key)
    else:
        where.insert(0, where.pop(key))


def _double(where: Any, key: Any, junk: Any) -> None:
    if isinstance(where, list):
        where.append(deepcopy(where[key]))
    else:
        where[str(key) + "2"] = deepcopy(where[key])


_CHANGES: tuple[Callable[[Any, Any, Any], None], ...] = (_drop, _put, _put, _rename, _double)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A good scenario with up to three things changed in it."""
    data = deepcopy(draw(st.sampled_from(_NEAR_VALID)))
    for _ in range(draw(st.integers(0, 3))):
        places = [*_places(data)]
        if not places:
            break
        where, key = places[draw(st.integers(0, len(places) - 1))]
        draw(st.sampled_from(_CHANGES))(where, key, draw(_junk))
    return data


def _many(few: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=MANY or few,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def _is_answered(text: str) -> bool:
    with nothing_is_done():
        try:
            parse(text, "f.yaml", {})
        except ChaosdError as error:
            assert error.message
            assert all(line.startswith("f.yaml") for line in error.message.splitlines()), error.message
            return False
    return True


_accepted: list[bool] = []


@_UNLIMITED
@_many(2000)
@given(documents())
def test_documents_that_are_nearly_right(data: dict[str, Any]) -> None:
    _accepted.append(_is_answered(yaml.safe_dump(data, allow_unicode=True)))


def test_some_of_them_were_right_and_some_were_not() -> None:
    if not _accepted:
        pytest.skip("the test before did not run")
    assert 0.02 < sum(_accepted) / len(_accepted) < 0.95


@_UNLIMITED
@_many(800)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from([*_WORDS, "\n", "  ", "- ", ": ", "{", "}", "[", "&a", "*a", "!!x ", "|", "'"])
        ).map("".join),
    )
)
def test_garbage(text: str) -> None:
    _is_answered(text)


@_UNLIMITED
@_many(3000)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                [*METRICS, *figures(), *OPERATORS, "a", ".", " ", "for", "5", "%", "ms", "GiB", "-", "\n"]
            )
        ).map("".join),
        st.builds(
            "{}{} {} {}{}{}".format,
            st.sampled_from(["", "a.", "host.", "b.c.", "."]),
            st.sampled_from([*METRICS, *figures()]),
            st.sampled_from([*OPERATORS, "=", "=>"]),
            st.floats() | st.integers() | st.sampled_from(["1e400", "9" * 400, "nan", "٣"]),
            st.sampled_from(["", "%", "s", "MiB", "x"]),
            st.sampled_from(["", " for 5s", " for", " for ever"]),
        ),
    ),
    st.sampled_from([None, {}]),
)
def test_thresholds(text: str, known: dict[str, Any] | None) -> None:
    with nothing_is_done():
        try:
            found = Threshold.parse(text, known)
        except ChaosdError as error:
            assert error.message
            assert error.hint
            assert "\n" not in str(error)
            return
        assert Threshold.parse(str(found)).metric == found.metric
