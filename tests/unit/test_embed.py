"""``import chaosd`` is light, and errors keep their kind on the way from another process."""

from __future__ import annotations

import subprocess
import sys

import pytest

import chaosd
from chaosd.errors import BusyError, ChaosdError, Exit, NotRestoredError, UnsupportedError, of_data, to_data


def test_importing_it_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import chaosd\n"
        "print(*sorted(set(sys.modules) - before))\n"
        "chaosd.inject; print(*sorted({'msgspec', 'yaml', 'pyroute2', 'click'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "chaosd\n\n"


def test_every_name_is_there() -> None:
    for name in chaosd.__all__:
        assert getattr(chaosd, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chaosd.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [ChaosdError, UnsupportedError, BusyError, NotRestoredError])
def test_an_error_comes_as_it_went(kind: type[ChaosdError]) -> None:
    error = kind("what", hint="do")
    error.exit = Exit.ABORTED
    found = of_data(to_data(error))
    assert (type(found), str(found), found.exit) == (kind, "what (do)", Exit.ABORTED)


def test_an_error_of_a_kind_of_its_own_comes_as_the_nearest() -> None:
    class OwnError(UnsupportedError):
        pass

    assert type(of_data(to_data(OwnError("what")))) is UnsupportedError
