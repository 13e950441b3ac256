"""Several tests at a time, and tests dealt out to several runs.

Host tests wait most of the time, so that several of them run side by side. A crash test, and one that is
marked ``alone`` because it measures what others would spoil, has the host for itself: it waits for those
under way, and the next ones wait for it.

The host tests are dealt out to emulated kernels, which are too slow for all of them:

``CHAOSD_HAND=1/9`` runs the second of nine hands. A test's name decides which one it is in, so that it stays
there when others come, and neighbors in one file, which try the same thing in other ways, are spread.
``test_kernel.py`` and ``test_probe_custom.py``, which wants bcc that one kernel alone has, are in every hand;
of the crash tests a hand has every third, and of its cases a share (tests/crash/test_crash.py).
``CHAOSD_LEAVE_OUT`` names files or tests, comma-separated, that are taken out of the hand dealt.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import pytest

_HERE = Path(__file__).parent
_HOST = (Path("/run/chaosd"), Path("/var/lib/chaosd"))
_IN_EVERY_HAND = ("test_kernel", "test_probe_custom")
_IN_THREE_HANDS = ("test_crash", "test_crash_exec", "test_crash_probe")
_SECONDS = {
    "test_scenarios_effect": 350,
    "test_resilience": 130,
    "test_timeline_live": 120,
    "test_syscall_scenarios": 90,
    "test_exec": 85,
    "test_service": 85,
    "test_real_syscalls": 55,
    "test_container_targets": 50,
    "test_daemon_death": 50,
}
"""What takes longest is begun first: a worker takes a file at a time."""


def pytest_configure() -> None:
    # A shell has its background jobs ignore the one, nohup the other; so would what tests start and signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    items.sort(key=lambda item: -_SECONDS.get(item.path.stem, 0))  # which keeps the order of all others
    hand = os.environ.get("CHAOSD_HAND", "")
    if not hand:
        return
    number, hands = (int(part) for part in hand.split("/"))
    crash = [item for item in items if item.path.stem in _IN_THREE_HANDS]
    dealt = [item for item in items if item.path.stem not in (*_IN_EVERY_HAND, *_IN_THREE_HANDS)]
    others = {item for item in dealt if crc32(item.nodeid.encode()) % hands != number}
    others |= {item for index, item in enumerate(crash) if index % 3 != number % 3}
    left_out = set(filter(None, os.environ.get("CHAOSD_LEAVE_OUT", "").split(",")))
    if unknown := left_out - {name for item in items for name in (item.path.stem, item.originalname)}:
        raise pytest.UsageError(f"CHAOSD_LEAVE_OUT: there is no {', '.join(unknown)}")
    others |= {item for item in items if item.path.stem in left_out or item.originalname in left_out}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of what counts a test's time
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.path.is_relative_to(_HERE / "unit"):
        return (yield)
    crash = item.path.is_relative_to(_HERE / "crash")
    with _turn(alone=crash or item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    """Be the only test, or one of several; who wants to be alone keeps those out who come later."""
    folder = Path(tempfile.gettempdir())
    with open(folder / "chaosd-test-door", "ab") as door, open(folder / "chaosd-test-host", "ab") as host:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(host, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(host, fcntl.LOCK_UN)  # which a child that lives on may have open


def _files() -> set[str]:
    return {str(path) for folder in _HOST for path in folder.rglob("*")}


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_on_the_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests, and all that they start, keep their files in folders of their own, or this fails."""
    before, folder = _files(), tmp_path_factory.mktemp("chaosd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOSD_RUN_DIR", str(folder / "run"))
        patch.setenv("CHAOSD_STATE_DIR", str(folder / "state"))
        yield
    assert not (left := _files() - before), left
    run = folder / "run"
    assert not run.exists() or not list(run.iterdir())
