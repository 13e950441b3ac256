"""One shop for all tests of a session: an engine takes its time to start, and so do images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import shop_world
from shop_world import Shop
from world import until


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop, for whatever a test is about to do with it."""
    with shop_world.shop(tmp_path_factory.mktemp("shop")) as found:
        yield found


@pytest.fixture
def shop(opened: Shop) -> Iterator[Shop]:
    """The shop, whole before the test, and with nothing of chaosd's left after it."""
    for service in shop_world.ADDRESSES:
        opened[service].start()
    until(lambda: opened.get("/bookings") == opened.get("/quote") == 200, "the shop is not whole", 30)
    yield opened
    assert opened.live() == []
    shutil.rmtree(opened.folder / "state", ignore_errors=True)
