"""What a fault on system calls costs, by each mechanism of this kernel, beside strace --inject.

python tests/bench/bench_syscalls.py [NAME...]

cost        microseconds a call of the target: one that is not meant, and one that is and goes unharmed
hit         a call that fails
bystander   calls of a process that is not the target's, beside it
attach      milliseconds until the fault is in force, and until it is gone
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import world
from injecting import lease
from tracee import Tracee, tracee, tracer_of

from chaosd.faults._syscall import LADDER
from chaosd.faults.base import Planning
from chaosd.faults.syscall_error import SyscallError
from chaosd.kernel import bpf
from chaosd.kernel.process import ProcessRef
from chaosd.targets.model import Target

CALLS = int(os.environ.get("CHAOSD_BENCH_CALLS", "5000"))
ROUNDS = int(os.environ.get("CHAOSD_BENCH_ROUNDS", "7"))

_TIMED = """
def timed(count, call, *arguments):
    begun = time.perf_counter()
    for _ in range(count):
        call(*arguments)
    return (time.perf_counter() - begun) / count * 1e6
def opened(path="/dev/null"):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        pass
"""


def _say(what: str, values: dict[str, float], form: str = "{:.2f}") -> None:
    said = "   ".join(f"{name} {form.format(value)}" for name, value in values.items())
    print(f"{what:52} {said}", flush=True)


@contextmanager
def _target() -> Iterator[Tracee]:
    with tracee() as child:
        child.ask(f"exec({_TIMED!r}, globals())")
        yield child


@contextmanager
def _ours(target: Tracee, mechanism: str, after: int) -> Iterator[None]:
    fault = SyscallError(syscalls=["openat"], errno="EIO", after=after, mechanism=mechanism)
    aimed = Target(f"pid:{target.pid}", processes=(ProcessRef.of(target.pid),))
    edits = list(fault.plan(aimed, Planning("be0c4a", 0, 1, mechanism, 600.0)))
    for edit in edits:
        edit.apply()
    lease(600)
    try:
        yield
    finally:
        for edit in reversed(edits):
            edit.revert()
        bpf.renew(0)


@contextmanager
def _strace(target: Tracee, after: int) -> Iterator[None]:
    inject = f"--inject=openat:error=EIO:when={after + 1}+"
    argv = ["strace", "-f", "-qq", "-e", "trace=openat", inject, "-o", "/dev/null", "-p", str(target.pid)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            world.until(lambda: tracer_of(target.pid), "strace does not attach")
            target.ask("tries(10)")
            yield
        finally:
            process.send_signal(signal.SIGTERM)


Way = Callable[[Tracee, int], AbstractContextManager[None]]


def _ways() -> dict[str, Way]:
    """Every mechanism that works here for openat, and strace."""
    found: dict[str, Way] = {}
    for mechanism in LADDER:
        if mechanism.name != "cgroup" and not mechanism.launched and not mechanism.missing():
            found[mechanism.name] = lambda target, after, name=mechanism.name: _ours(target, name, after)
    found |= {"strace": _strace}
    chosen = os.environ.get("CHAOSD_BENCH_WAYS", ",".join(found)).split(",")
    return {name: way for name, way in found.items() if name in chosen}


def _each(target: Tracee, expression: str, after: int) -> dict[str, float]:
    """Medians, in turns, so that a noisy moment strikes all alike."""
    took: dict[str, list[float]] = {"none": []}
    for _ in range(ROUNDS):
        took["none"].append(target.ask(expression))
        for name, way in _ways().items():
            with way(target, after):
                took.setdefault(name, []).append(target.ask(expression))
    return {name: statistics.median(times) for name, times in took.items()}


def bench_cost() -> None:
    with _target() as target:
        _say("getppid, not meant, us", _each(target, f"timed({CALLS}, os.getppid)", 0))
        _say("openat and close, meant and spared, us", _each(target, f"timed({CALLS}, opened)", 60_000))


def bench_hit() -> None:
    with _target() as target:
        _say("openat that fails, us", _each(target, f"timed({CALLS}, opened)", 0))


def bench_attach() -> None:
    on: dict[str, list[float]] = {}
    off: dict[str, list[float]] = {}
    with _target() as target:
        for _ in range(ROUNDS):
            for name, way in _ways().items():
                began = time.perf_counter()
                with way(target, 0):
                    on.setdefault(name, []).append((time.perf_counter() - began) * 1000)
                    began = time.perf_counter()
                off.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    _say("until in force, ms", {name: statistics.median(times) for name, times in on.items()}, "{:.0f}")
    _say("until gone, ms", {name: statistics.median(times) for name, times in off.items()}, "{:.0f}")


def bench_bystander() -> None:
    """The bystander and the target open the same file; only the target's calls are meant."""
    ratios: dict[str, list[float]] = {}
    with _target() as target, _target() as bystander:
        for _ in range(ROUNDS):
            for name, way in _ways().items():
                free = float(bystander.ask(f"timed({CALLS}, opened)"))
                with way(target, 0):
                    ratios.setdefault(name, []).append(bystander.ask(f"timed({CALLS}, opened)") / free)
    _say("a bystander's openat, fault in force / not", {n: statistics.median(r) for n, r in ratios.items()})


BENCHES: dict[str, Callable[[], None]] = {
    "cost": bench_cost,
    "hit": bench_hit,
    "bystander": bench_bystander,
    "attach": bench_attach,
}


def main() -> None:
    for name in sys.argv[1:] or list(BENCHES):
        BENCHES[name]()


if __name__ == "__main__":
    main()
