"""A disk for the guest with what Python reads all the time: the tree, the environment, the library.

Read through 9p, under emulation, these files made every start of Python three times as slow.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
_UNREAD = (".git", ".*_cache", ".hypothesis", "build", "mypy*", "*__mypyc*", "pip", "ruff", "setuptools")


def build(image: Path) -> None:
    """Write an ext4 image; its file ``paths`` says which of its numbered entries belongs where."""
    with tempfile.TemporaryDirectory(dir=image.parent) as name:
        stage = Path(name)
        lines = [f"{number} {path}\n" for number, path in enumerate(_paths()) if _stage(path, stage, number)]
        (stage / "paths").write_text("".join(lines), "utf-8")
        size = sum(file.lstat().st_size + 4096 for file in stage.rglob("*"))
        # No journal for a disk that lives minutes; an inode for each 4 KiB, because files are small.
        options = ["-t", "ext4", "-O", "^has_journal", "-m", "0", "-i", "4096", "-d", name]
        image.unlink(missing_ok=True)
        image.touch()  # mke2fs announces a file that it has to make
        subprocess.run(
            ["mke2fs", "-q", *options, str(image), f"{size // 1024 * 5 // 4 + 65536}k"], check=True
        )


def _paths() -> list[Path]:
    python = Path(sys.executable).resolve()
    found = [TREE, Path(sys.prefix), Path(sysconfig.get_path("stdlib")), python, *_libraries(python)]
    return [path for path in dict.fromkeys(found) if not any(other in path.parents for other in found)]


def _libraries(program: Path) -> list[Path]:
    answer = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout
    return [Path(word).resolve() for word in answer.split() if word.startswith("/")]


def _stage(path: Path, stage: Path, number: int) -> bool:
    target = stage / str(number)
    if path.is_file():
        shutil.copy2(path, target)
        return True
    unread = shutil.ignore_patterns(
        *_UNREAD, *(("site-packages", "test") if path.name.startswith("python3") else ())
    )
    shutil.copytree(path, target, symlinks=True, ignore=unread)
    if path == TREE:
        compileall.compile_dir(target / "chaosd", stripdir=str(target), prependdir=str(path), quiet=1)
    return True
