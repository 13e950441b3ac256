"""A process that makes system calls when it is told to, and says what came of each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import world

from chaosd.kernel.cgroup import CgroupRef

_CODE = """
import errno, os, socket, sys, threading

def opened(path):
    os.close(os.open(path, os.O_RDONLY))

def looped(what, path, count):
    made = {"fsync": lambda fd: os.fsync(fd), "pread": lambda fd: os.pread(fd, 1, 0),
            "pwrite": lambda fd: os.pwrite(fd, b"x", 0)}
    fd = os.open(path, os.O_RDWR) if what in made else -1
    calls = {"open": lambda: opened(path), "stat": lambda: os.stat(path), "unlink": lambda: os.unlink(path),
             "mkdir": lambda: os.mkdir(path), "fork": forked, "thread": threaded,
             "exec": lambda: os.posix_spawn(path, [path], {}),
             "access": lambda: os.stat(path, follow_symlinks=False)}
    begun = {"relative": relative, "dirfd": below}
    call = (lambda: made[what](fd)) if what in made else begun[what](path) if what in begun else calls[what]
    said = []
    for _ in range(count):
        try:
            call()
            said.append("ok")
        except OSError as error:
            said.append(errno.errorcode[error.errno])
        except RuntimeError:  # a thread that cannot be started
            said.append("RuntimeError")
    if fd >= 0:
        os.close(fd)
    return said

def forked():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

def threaded():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()

def relative(path):
    folder, name = os.path.split(path)
    def call():
        os.chdir(folder)
        os.close(os.open(name, os.O_RDONLY))
    return call

def below(path):
    folder, name = os.path.split(path)
    at = os.open(os.path.dirname(folder), os.O_PATH)
    def call():
        os.close(os.open(os.path.join(os.path.basename(folder), name), os.O_RDONLY, dir_fd=at))
    return call

def in_child(*args):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, " ".join(looped(*args)).encode())
        os._exit(0)
    os.close(write)
    parts = []
    while part := os.read(read, 65536):
        parts.append(part)
    os.waitpid(pid, 0)
    return b"".join(parts).decode().split()

def in_thread(*args):
    said = []
    thread = threading.Thread(target=lambda: said.extend(looped(*args)))
    thread.start()
    thread.join()
    return said

print("up", flush=True)
for line in sys.stdin:
    how, what, count, path = line.rstrip("\\n").split(" ", 3)
    said = {"here": looped, "child": in_child, "thread": in_thread}[how](what, path, int(count))
    print(" ".join(said), flush=True)
"""


class Caller:
    """The process; ``make`` lets it make calls."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.pid = child.pid
        assert self._answer() == "up\n"

    def _answer(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline()

    def make(self, what: str, path: Path | str, count: int = 1, how: str = "here") -> list[str]:
        """The outcome of each of ``count`` calls: ``ok`` or the name of an errno."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{how} {what} {count} {path}\n")
        self.child.stdin.flush()
        return self._answer().split()


@contextmanager
def caller(cg: CgroupRef | None = None) -> Iterator[Caller]:
    """A process, in a cgroup if asked."""
    with world.spawn(world.python(_CODE), cg=cg) as child:
        yield Caller(child)
