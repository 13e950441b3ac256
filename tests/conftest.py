"""Deals the host tests out to several runs, such as emulated kernels that are too slow for all of them.

``CHAOSD_HAND=1/3`` runs the second of three hands: every third test, so that neighbors in one file,
which try the same thing in other ways, go to different hands. ``test_kernel.py``, the tests that want
bcc, which one kernel alone has, and the crash tests are in every hand; the latter have shares of
their own (tests/crash/test_crash.py).
``CHAOSD_LEAVE_OUT`` names files or tests, comma-separated, that are taken out of the hand dealt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOST = (Path("/run/chaosd"), Path("/var/lib/chaosd"))
_IN_EVERY_HAND = ("test_kernel", "test_crash", "test_crash_exec", "test_crash_probe", "test_probe_custom")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    hand = os.environ.get("CHAOSD_HAND", "")
    if not hand:
        return
    number, hands = (int(part) for part in hand.split("/"))
    dealt = [item for item in items if item.path.stem not in _IN_EVERY_HAND]
    others = {item for index, item in enumerate(dealt) if index % hands != number}
    left_out = os.environ.get("CHAOSD_LEAVE_OUT", "").split(",")
    others |= {item for item in items if item.path.stem in left_out or item.originalname in left_out}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


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
