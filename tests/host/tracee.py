"""A process that does what a test tells it, line by line, and how to trace it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import world
from injecting import applied

from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.match import Rule
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.syscalls import Calls
from chaosd.kernel.tasks import Members
from chaosd.kernel.tracing import Trace

RUN = f"{os.getpid() % 0xFFFFFF:06x}"
"""Unique on this host, as a run's is: a revert ends all tracers of it."""

CODE = """
import ctypes, errno, mmap, os, select, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"
def tries(count, call=os.sched_yield, *arguments):
    return [outcome(call, *arguments) for _ in range(count)]
def raw(call, *arguments):
    return call(*arguments), ctypes.get_errno()
def takes_int80():
    pid = os.fork()
    if pid == 0:
        by_int80(20)(0)  # getpid
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
def by_int80(number):
    # push rbx; mov ebx, edi; mov eax, NUMBER; int 0x80; cdqe; pop rbx; ret
    code = b"\\x53\\x89\\xfb\\xb8" + number.to_bytes(4, "little") + b"\\xcd\\x80\\x48\\x98\\x5b\\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    keep.append(page)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int)(at)
class Worker(threading.Thread):
    # a thread that makes one call after another when it is told to
    def __init__(self):
        super().__init__(daemon=True)
        self.go, self.done, self.work, self.result = threading.Event(), threading.Event(), None, None
        self.start()
    def run(self):
        while self.go.wait():
            self.go.clear()
            self.result = self.work()
            self.done.set()
    def begin(self, work):
        self.work = work
        self.done.clear()
        self.go.set()
    def end(self, seconds=30):
        assert self.done.wait(seconds)
        return self.result
keep, workers = [], []
got = []
print("up", flush=True)
for line in sys.stdin:
    try:
        said = eval(line)
    except SyntaxError:
        said = exec(line)
    print(repr(said), flush=True)
"""


class Tracee:
    """A child that evaluates what it is sent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid
        self.started()

    def started(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def send(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(code + "\n")

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return eval(self.process.stdout.readline())

    def ask(self, code: str) -> Any:
        """What an expression, or a statement, gives there."""
        self.send(code)
        return self.answer()

    @property
    def members(self) -> Members:
        here = CgroupRef.at(str(world.cgroup_root()))
        return Members(here, entire=False, processes=(ProcessRef.of(self.pid),))

    def trace(self, *names: str, path: str = "", **fields: Any) -> Trace:
        """The edit that treats these calls of it."""
        calls = fields.pop("calls", Calls(names or ("sched_yield",), path))
        return Trace(
            RUN, 3, fields.pop("members", self.members), calls, fields.pop("rule", Rule(7)), **fields
        )

    @contextmanager
    def traced(self, *names: str, **fields: Any) -> Iterator[Trace]:
        """Calls of these names fail with EXFULL, which no call here returns by itself, or are held."""
        edit = self.trace(*names, **({} if "delay" in fields else {"error": errno.EXFULL}), **fields)
        with applied([edit]):
            yield edit


@contextmanager
def tracee(**where: Any) -> Iterator[Tracee]:
    """A child of our own that can be told what to do."""
    with world.spawn(world.python(CODE), **where) as process:
        yield Tracee(process)


def tracer_of(pid: int) -> int:
    """Who traces a process; 0 for nobody."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("TracerPid:"))


def state_of(pid: int) -> str:
    """The letter of its state in /proc."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]
