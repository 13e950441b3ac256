"""What the tracer is told, and how it decides: pure parts, without a process."""

from __future__ import annotations

import errno
import mmap
import os
import re
import struct
import subprocess
import time
from collections import Counter

import pytest

from chaosd.kernel import arguments, helper
from chaosd.kernel.match import Filters
from chaosd.kernel.syscalls import Calls, names
from chaosd.kernel.tracer_rule import COUNTERS, Rule, mix, read


def test_the_draw_is_splitmix64() -> None:
    # the first outputs for the seeds 0 and 1234567, as the authors' splitmix64.c gives them
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(1234567) == 6457827717110365317


def _decided(leased: bool, calls: int, **rule: int) -> tuple[list[bool], dict[str, int], dict[int, int]]:
    lease, page = mmap.mmap(-1, mmap.PAGESIZE), mmap.mmap(-1, mmap.PAGESIZE)
    deadline = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 60 * 10**9
    lease[:8] = struct.pack("=Q", deadline if leased else 0)
    plain = {"seed": 5, "budget": 0, "worsen": 1 << 32, "after": 0, "first": 0, "every": 1, "fault": 3} | rule
    decides = Rule(plain, page, lease)
    said = [decides.strikes() is not None for _ in range(calls)]
    for _ in filter(None, said):
        decides.credit(77)
    return said, *read(page)


@pytest.mark.parametrize(
    ("rule", "hit", "skipped"),
    [
        ({}, 100, {}),
        ({"worsen": 0}, 0, {"probability": 100}),
        ({"after": 90}, 10, {"turn": 90}),
        ({"after": 10, "first": 20, "every": 5}, 4, {"turn": 96}),
        ({"every": 10, "budget": 3}, 3, {"turn": 90, "budget": 7}),
    ],
)
def test_every_matched_call_is_counted_once_more_by_its_reason(
    rule: dict[str, int], hit: int, skipped: dict[str, int]
) -> None:
    said, counts, processes = _decided(True, 100, **rule)
    assert sum(said) == counts.pop("injected") == hit
    assert counts.pop("matched") == 100
    assert {why: n for why, n in counts.items() if n} == skipped
    assert processes == ({77: hit} if hit else {})


def _spared(share: float) -> list[bool]:
    lease, page = mmap.mmap(-1, mmap.PAGESIZE), mmap.mmap(-1, mmap.PAGESIZE)
    struct.pack_into("=Q", lease, 0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**12)
    struct.pack_into("=Q", lease, 8 * (1 + 3), round((1 - share) * (1 << 32)))
    rule = {"seed": 5, "budget": 0, "worsen": 1 << 31, "after": 0, "first": 0, "every": 1, "fault": 3}
    decides = Rule(rule, page, lease)
    return [decides.strikes() is not None for _ in range(4000)]


def test_a_smaller_share_hits_fewer_of_the_same_calls() -> None:
    whole, half, none = _spared(1), _spared(0.5), _spared(0)
    assert not any(none)
    assert all(hit for hit, thinned in zip(whole, half, strict=True) if thinned)
    assert 0.45 < sum(half) / sum(whole) < 0.55


def test_without_a_lease_nothing_is_hit_nor_numbered() -> None:
    said, counts, _ = _decided(False, 10)
    assert not any(said)
    assert counts == dict.fromkeys(COUNTERS, 0) | {"matched": 10, "lease": 10}


@pytest.mark.parametrize(
    ("path", "meant", "others"),
    [
        ("/data", ["/data", "/data/a", "/data/a/b"], ["/database", "/", "/a/data"]),
        ("/data/", ["/data", "/data/a"], ["/data2"]),
        ("/", ["/", "/a", "/a/b"], []),
        ("/d/*.db", ["/d/a.db", "/d/.db"], ["/d/a/b.db", "/d/a.db-wal", "/d/adb"]),
        ("/d/**.db", ["/d/a.db", "/d/a/b.db"], ["/e/a.db"]),
        ("/d/?", ["/d/a"], ["/d/", "/d/ab", "/d//"]),
        ("/a.b(c)", ["/a.b(c)"], ["/aXb(c)"]),
    ],
)
def test_paths_and_patterns(path: str, meant: list[str], others: list[str]) -> None:
    expression = re.compile(arguments.expression(path), re.DOTALL)
    assert [name for name in meant if not expression.fullmatch(name)] == []
    assert [name for name in others if expression.fullmatch(name)] == []


def test_a_call_is_known_once_and_by_the_name_that_some_machine_has() -> None:
    listed = Counter(name for _, group in arguments._GROUPS for name in group.split())
    assert [name for name, count in listed.items() if count > 1] == []
    known = set(names()) | set(arguments._ALSO.values()) | {"recv", "send"}
    assert {name for name in listed if name not in known} <= {
        "recv", "send", "_llseek", "fchmodat2", "open", "creat", "stat", "lstat", "access", "readlink",
        "unlink", "rmdir", "mkdir", "mknod", "chmod", "chown", "lchown", "utime", "utimes", "symlink",
        "rename", "link", "getdents", "futimesat",
    }  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are x86's")
def test_the_numbers_of_both_kinds_of_callers() -> None:
    own, compat = arguments.numbered(("fsync", "mmap", "connect")).values()
    assert own == {74: "fsync", 9: "mmap", 42: "connect"}
    assert compat == {
        118: "fsync", 90: "mmap", 192: "mmap2", 362: "connect", 102: "socketcall", 0x10003: "connect"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (Calls(("read",), "data"), "not absolute"),
        (Calls(("read", "brk"), "/data"), "brk works on no file"),
        (Calls(("connect", "open"), sockets=Filters(ports=((1, 2),))), "open works on no socket"),
    ],
)
def test_filters_that_a_call_cannot_have(calls: Calls, words: str) -> None:
    (said,) = arguments.refused(calls)
    assert words in said
    assert arguments.refused(Calls(("read", "openat", "rename"), "/data")) == []


@pytest.mark.parametrize(
    ("module", "neighbors"),
    [
        ("tracer_start", {"ptrace", "tracer_process", "tracer_decider", "tracer_filter", "tracer_rule"}),
        (
            "notify_start",
            {"ptrace", "notify_process", "notify_calls", "tracer_decider", "tracer_filter", "tracer_rule"},
        ),
        ("relay_start", {"relay_process"}),
    ],
)
def test_helpers_need_the_standard_library_alone(module: str, neighbors: set[str]) -> None:
    words = [word.replace("main()", "print(*sys.modules)") for word in helper.command(module)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith(("chaosd", "msgspec", "pyroute2"))}
    ours = {f"chaosd.kernel.{name}" for name in (module, "settle", *neighbors)}
    assert loaded == {"chaosd", "chaosd.kernel"} | ours


def test_the_errno_of_the_canary_is_one_that_a_status_can_hold() -> None:
    assert 0 < errno.EXFULL < 128
