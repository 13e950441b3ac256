import subprocess
import sys
from pathlib import Path

import pytest

from chaosd.kernel import pseudo


def test_what_the_kernel_gives_page_by_page_is_read_to_its_end() -> None:
    argv = [sys.executable, "-c", "import ctypes, decimal, sqlite3, ssl; print(flush=True); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        maps = f"/proc/{child.pid}/maps"
        said = pseudo.read(maps)
        assert said == Path(maps).read_text("utf-8")
        child.communicate("\n")
    assert len(said) > 4096, "one page would not have told"


def test_what_is_gone_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        pseudo.read("/proc/self/nothing")
