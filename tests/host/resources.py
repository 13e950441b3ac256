"""What the tests of cgroup and process edits share: cgroups of one controller, plans, runs of edits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from world import python

from chaosd.faults.base import Fault, Planning
from chaosd.kernel import cgroup
from chaosd.kernel.cgroup import UNIFIED, CgroupRef
from chaosd.kernel.cgroup_group import dissolve
from chaosd.kernel.edit import Edit, Undo, from_data, to_data
from chaosd.kernel.process import ProcessRef
from chaosd.targets.model import Target

RUN = f"{os.getpid() % 0xFFFFFF:06x}"
_serial = count()

TICKER = """
import os, sys, time
if len(sys.argv) > 2 and os.fork() == 0:
    sys.argv[1] += ".child"
with open(sys.argv[1], "w") as file:
    while True:
        file.write("x"); file.flush(); time.sleep(0.01)
"""
BUSY = "while True: pass"
REVERT = """
import json, sys
from chaosd.faults.base import registry
from chaosd.kernel.edit import from_data
registry()
print(json.dumps([from_data(data).revert() for data in json.load(sys.stdin)]))
"""


@contextmanager
def group(controller: str) -> Iterator[tuple[str, CgroupRef]]:
    """A cgroup in the hierarchy that has a controller (``freezer``: where cgroups can be frozen)."""
    key = cgroup.home_of(controller)
    if controller == "freezer" and key is None:
        key = UNIFIED
    if key is None:
        pytest.skip(f"no {controller} controller here")
    top = cgroup.root(key).path
    path = Path(top, f"test-{os.getpid()}-{next(_serial)}")
    path.mkdir()
    if key == "cpuset":
        for file in ("cpuset.mems", "cpuset.cpus"):
            Path(path, file).write_text(Path(top, file).read_text("ascii"), "ascii")
    try:
        yield key, CgroupRef.at(str(path))
    finally:
        dissolve(str(path), top)


def enter(pid: int, ref: CgroupRef) -> None:
    """Move a process into a cgroup."""
    Path(ref.path, "cgroup.procs").write_text(str(pid), "ascii")


def bare(pid: int) -> Target:
    """A target that is one process, which shares its cgroup."""
    return Target(f"pid:{pid}", processes=(ProcessRef.of(pid),))


def owner(key: str, ref: CgroupRef) -> Target:
    """A target that is a cgroup."""
    return Target(f"cgroup:{ref.path}", tuple(map(ProcessRef.of, cgroup.members(ref.path))), {key: ref})


def plan(fault: Fault, target: Target, run: str = RUN) -> list[Edit]:
    """The edits of a fault on a target, as the engine would plan them, read back from JSON."""
    assert fault.check() == []
    at = Planning(run, 0, 1, fault.choose().name, 5.0)
    assert fault.effect(target, at)
    edits = list(fault.plan(target, at))
    assert len(set(edits)) == len(edits) == len({edit.slot for edit in edits})
    assert [from_data(json.loads(json.dumps(to_data(edit)))) for edit in edits] == edits
    return edits


def surroundings(edits: Sequence[Edit]) -> dict[str, str]:
    """All of the edits' surroundings."""
    return {name: value for edit in edits for name, value in edit.surroundings().items()}


@contextmanager
def applied(edits: Sequence[Edit], *, elsewhere: bool = False) -> Iterator[None]:
    """Apply, and at the end revert in reverse, ``elsewhere`` in another process from JSON alone.

    Everything must be present between, absent after, and the surroundings as before.
    """
    before = surroundings(edits)
    done: list[Edit] = []
    try:
        for edit in edits:
            done.append(edit)
            edit.apply()
            assert edit.present(), edit
        yield
    except BaseException:
        for edit in reversed(done):  # here, so that no helper of this process stays for the tests to come
            edit.revert()
        raise
    finally:
        outcomes = revert_elsewhere(done) if elsewhere else [edit.revert() for edit in reversed(done)]
    assert outcomes
    for edit, outcome in zip(reversed(done), outcomes, strict=True):
        assert outcome in (Undo.DONE, Undo.GONE, Undo.NEVER), (edit, outcome)
        if outcome is Undo.DONE:
            assert not edit.present(), edit
    assert [edit.revert() for edit in reversed(done)] == [
        Undo.NEVER if edit.irreversible else Undo.GONE for edit in reversed(done)
    ]
    after = surroundings(edits)
    assert {name: after[name] for name in before if name in after} == {
        n: before[n] for n in before if n in after
    }
    assert not [name for name, value in after.items() if value == "cgroup" and name not in before]


def revert_elsewhere(edits: Sequence[Edit]) -> list[Undo]:
    """Revert in a new process that knows nothing but the edits as data."""
    data = json.dumps([to_data(edit) for edit in reversed(edits)])
    done = subprocess.run(
        [sys.executable, "-c", REVERT], input=data, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [Undo(word) for word in json.loads(done.stdout)]


def cpu_time(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(pid: int, seconds: float = 2.0) -> float:
    """How much of one CPU a process gets."""
    used, began = cpu_time(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_time(pid) - used) / (time.monotonic() - began)


def place(pid: int, key: str) -> str:
    """Where a process is in a hierarchy."""
    return cgroup.of_process(pid)[key]


def ticker(path: Path, *, child: bool = False) -> list[str]:
    """A process that adds a byte to a file every 10 ms, and a child that does so to FILE.child."""
    return python(TICKER, path, *(["child"] if child else []))


def grows(path: Path, seconds: float = 0.3) -> bool:
    """Whether a file gets longer."""
    size = path.stat().st_size if path.exists() else 0
    time.sleep(seconds)
    return path.exists() and path.stat().st_size > size
