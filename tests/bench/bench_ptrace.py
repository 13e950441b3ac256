"""What tracing costs its target, beside strace: python tests/bench/bench_ptrace.py [NAME...]

cost        a call that is not meant, traced by us and by strace --inject, and not traced
hit         a call that fails, by us and by strace
attach      until all threads of a target are traced, and until they are let go
bystander   calls of a process that is not the target's, while the target makes calls all the time
"""

from __future__ import annotations

import errno
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import world
from injecting import lease
from tracee import Tracee, tracee, tracer_of

from chaosd.kernel import bpf
from chaosd.kernel.match import Rule

CALLS = 20_000
ROUNDS = 7

_TIMED = """
def timed(count, call, *arguments):
    begun = time.perf_counter()
    for _ in range(count):
        call(*arguments)
    return (time.perf_counter() - begun) / count * 1e6
def failing(count):
    begun = time.perf_counter()
    for _ in range(count):
        try:
            os.fsync(null)
        except OSError:
            pass
    return (time.perf_counter() - begun) / count * 1e6
"""


def _say(what: str, value: str, bound: str = "") -> None:
    print(f"{what:58} {value:>24}   {f'bound {bound}' if bound else ''}".rstrip(), flush=True)


@contextmanager
def _target() -> Iterator[Tracee]:
    with tracee() as child:
        child.ask(f"exec({_TIMED!r}, globals())")
        child.ask("zero, null = os.open('/dev/zero', 0), os.memfd_create('x')")
        yield child


@contextmanager
def _ours(target: Tracee) -> Iterator[None]:
    edit = target.trace("fsync", error=errno.EIO, rule=Rule(1))
    edit.apply()
    lease(600)
    try:
        yield
    finally:
        edit.revert()
        bpf.renew(0)


@contextmanager
def _strace(target: Tracee) -> Iterator[None]:
    argv = ["strace", "-f", "-qq", "-e", "trace=fsync", "--inject=fsync:error=EIO", "-o", "/dev/null"]
    with subprocess.Popen([*argv, "-p", str(target.pid)], stderr=subprocess.DEVNULL) as process:
        try:
            world.until(lambda: tracer_of(target.pid), "strace does not attach")
            target.ask("tries(10)")
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def _each(target: Tracee, expression: str) -> dict[str, float]:
    """Medians of microseconds a call, in turns, so that a noisy moment strikes all alike."""
    took: dict[str, list[float]] = {"free": [], "ours": [], "strace": []}
    for _ in range(ROUNDS):
        took["free"].append(target.ask(expression))
        for name, tracing in (("ours", _ours), ("strace", _strace)):
            with tracing(target):
                took[name].append(target.ask(expression))
    return {name: statistics.median(times) for name, times in took.items()}


def bench_cost() -> None:
    with _target() as target:
        for name, call in (("getppid", "os.getppid"), ("read of 1 byte", "os.read, zero, 1")):
            took = _each(target, f"timed({CALLS}, {call})")
            said = f"{took['ours']:.1f} / {took['strace']:.1f} / {took['free']:.1f} us"
            _say(f"{name}, fsync is meant: ours / strace / not traced", said)
            _say(f"{name}, ours / strace", f"{took['ours'] / took['strace']:.2f} x")


def bench_hit() -> None:
    with _target() as target:
        took = _each(target, f"failing({CALLS // 4})")
        said = f"{took['ours']:.1f} / {took['strace']:.1f} / {took['free']:.1f} us"
        _say("fsync that fails: ours / strace / not traced", said)


def bench_attach() -> None:
    for threads in (1, 100):
        with _target() as target:
            target.ask(f"workers.extend(Worker() for _ in range({threads - 1}))")
            on, off = [], []
            for _ in range(11):
                edit = target.trace("fsync", error=errno.EIO)
                began = time.perf_counter()
                edit.apply()
                on.append(time.perf_counter() - began)
                began = time.perf_counter()
                edit.revert()
                off.append(time.perf_counter() - began)
            said = f"{statistics.median(on) * 1000:.0f} / {statistics.median(off) * 1000:.0f} ms"
            _say(f"{threads} threads, until traced / until let go, median", said)


def _rates(bystander: Tracee, target: Tracee, tracing: Callable[..., object] | None) -> float:
    target.send(f"timed({CALLS * 8 if tracing else CALLS * 400}, os.getppid)")
    rate = 1 / float(bystander.ask(f"timed({CALLS * 30}, os.getppid)"))
    target.answer()
    return rate


def bench_bystander() -> None:
    ratios = []
    with _target() as target, _target() as bystander:
        for _ in range(5):
            free = _rates(bystander, target, None)
            with _ours(target):
                ratios.append(_rates(bystander, target, _ours) / free)
    cores = len(os.sched_getaffinity(0))
    _say(f"a bystander's calls, busy target traced / not, {cores} cores", f"{statistics.median(ratios):.3f}")


BENCHES: dict[str, Callable[[], None]] = {
    "cost": bench_cost,
    "hit": bench_hit,
    "attach": bench_attach,
    "bystander": bench_bystander,
}


def main() -> None:
    for name in sys.argv[1:] or list(BENCHES):
        BENCHES[name]()


if __name__ == "__main__":
    main()
