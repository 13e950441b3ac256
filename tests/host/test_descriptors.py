"""fd.exhaust with ``spare``: the real limit, met by everything that makes a descriptor, and put back."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace
from resources import applied, bare, plan
from world import python, spawn, until

from chaosd.errors import ChaosdError
from chaosd.faults.fd_exhaust import FdExhaust
from chaosd.kernel.descriptors import DescriptorLimit
from chaosd.kernel.edit import Evidence, Undo
from chaosd.kernel.process import ProcessRef, descendants, family
from chaosd.targets.model import Target
from chaosd.units import Percent

# Opens as many as it can at each line, and says how many that were and what then was said; `fork` makes
# a child that does nothing, `daemon` one whose parent ends at once.
OPENER = """
import os, sys, time
def opened():
    held = []
    try:
        while len(held) < 100:
            held.append(os.dup(0))
    except OSError as error:
        return len(held), error.errno
    finally:
        for fd in held:
            os.close(fd)
    return len(held), 0
gap = os.dup(os.dup(0))
os.close(gap - 1)
print("up", flush=True)
for word in sys.stdin:
    if word == "fork\\n" and os.fork() == 0:
        time.sleep(600)
    if word == "daemon\\n" and os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        os._exit(0)
    print(*opened(), flush=True)
"""


def opened(process: subprocess.Popen[str], word: str = "") -> tuple[int, int]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{word}\n")
    count, number = process.stdout.readline().split()
    return int(count), int(number)


def up(process: subprocess.Popen[str]) -> Target:
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return bare(process.pid)


def soft(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("spare", [0, 1, 5])
def test_a_process_gets_so_many_and_no_more(spare: int, elsewhere: bool) -> None:
    """Exactly ``spare``, although there is a gap between those it has; EMFILE then, and all again after."""
    with spawn(python(OPENER)) as process:
        target = up(process)
        assert opened(process) == (100, 0)
        with applied(edits := plan(FdExhaust(spare=spare), target), elsewhere=elsewhere):
            assert opened(process) == (spare, errno.EMFILE)
            full = edits[0].evidence()
            assert full == Evidence(
                1, int(spare == 0), {} if spare == 0 else {"has some left": 1}, "processes"
            )
        assert opened(process) == (100, 0)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_children_made_meanwhile_get_their_limit_back(elsewhere: bool) -> None:
    """Those that are still its children, and one that nobody is the parent of any more."""
    with spawn(python(OPENER)) as process:
        target = up(process)
        had = soft(process.pid)
        edits = plan(FdExhaust(spare=3), target)
        daemon = 0
        try:
            with applied(edits, elsewhere=elsewhere):
                opened(process, "fork")
                opened(process, "daemon")
                # its parent, which ends at once, may be there for a moment
                until(lambda: len(_named(OPENER)) == 3 and strays(process), "no children")
                (daemon,) = strays(process)
                assert {soft(pid) for pid in _named(OPENER)} == {soft(process.pid)} != {had}
            assert {soft(pid) for pid in _named(OPENER)} == {had}
        finally:
            if daemon:
                os.kill(daemon, 9)


def strays(process: subprocess.Popen[str]) -> set[int]:
    """Who runs the same, began later and descends from somebody else."""
    since = ProcessRef.of(process.pid).start_time
    later = {pid for pid in _named(OPENER) if ProcessRef.of(pid).start_time >= since}
    return later - {process.pid, *descendants(process.pid)}


def _named(code: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")
        except OSError:
            continue
        found += [int(pid)] if code in words else []
    return [pid for pid in found if ProcessRef.of(pid).alive()]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_another_user_has_started_meanwhile_is_not_in_the_way(elsewhere: bool) -> None:
    """Its limits are closed to a root without CAP_SYS_RESOURCE, and it is none of those that got ours."""
    code = "import os, time; os.setgid(65534); os.setuid(65534); print('up', flush=True); time.sleep(600)"
    with spawn(python(OPENER)) as process:
        target, had = up(process), soft(process.pid)
        edits = plan(FdExhaust(spare=3), target)
        with spawn(python(code)) as other:
            assert other.stdout
            assert other.stdout.readline() == "up\n"
            with applied(edits, elsewhere=elsewhere):
                assert soft(process.pid) != had
        assert soft(process.pid) == had


def test_a_limit_that_somebody_else_set_is_left_alone() -> None:
    with spawn(python(OPENER)) as process:
        (edit,) = plan(FdExhaust(spare=0), up(process))
        edit.apply()
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (77, hard))
        assert "somebody else" in edit.lost()
        assert edit.revert() is Undo.FOREIGN
        assert soft(process.pid) == 77


def test_a_stranger_with_a_usual_limit_is_left_alone() -> None:
    """It began meanwhile, in the same cgroup, with the very limit that was set: 256, as others are given."""
    with spawn(python(OPENER)) as process:
        (planned,) = plan(FdExhaust(spare=3), up(process))
        assert isinstance(planned, DescriptorLimit)
        edit = replace(planned, after=256)
        words = ["prlimit", f"--nofile=256:{edit.hard}", "sleep", "60"]
        with applied([edit]), spawn(words) as stranger:
            until(lambda: soft(stranger.pid) == 256, "no stranger")
            assert edit.revert() is Undo.DONE
            assert soft(stranger.pid) == 256
            edit.apply()


def test_every_process_of_the_target_is_met() -> None:
    with spawn(python(OPENER)) as process:
        target = up(process)
        opened(process, "fork")
        edits = plan(FdExhaust(spare=0), target)
        assert len(edits) == len(family(target.processes)) == 2
        with applied(edits):
            assert all(soft(member.pid) < 20 for member in family(target.processes))


def test_what_a_limit_cannot_do_is_refused() -> None:
    with pytest.raises(ChaosdError, match="not for the whole host"):
        plan(FdExhaust(spare=0), Target("host"))
    assert FdExhaust(spare=0, probability=Percent(10)).check() == [
        "probability: goes not with spare, for a limit takes all alike"
    ]
    assert FdExhaust(spare=0, errno="ENFILE").check()
    assert FdExhaust(spare=0, mechanism="ptrace").check()
    assert FdExhaust(spare=0).choose().name == FdExhaust(mechanism="rlimit").choose().name == "rlimit"
    assert FdExhaust().choose().name != "rlimit"
