"""Fixtures that several files of host tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
import world
from injecting import NEEDS


@pytest.fixture(params=["override", "security", "ptrace"])
def mechanism(request: pytest.FixtureRequest) -> str:
    """The mechanisms for the system calls of what runs already, each where this kernel has it."""
    name = str(request.param)
    world.need(*NEEDS[name])
    return name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of one byte."""
    path = tmp_path / "file"
    path.write_text("x", "ascii")
    return path


@pytest.fixture
def here(tmp_path: Path) -> Iterator[programs.Stage]:
    """The stage, empty."""
    with programs.stage(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database cluster, to be copied."""
    return programs.cluster(tmp_path_factory.mktemp("cluster"))
