"""syscall.error and its kin: who gets which error, how often, by every mechanism that this kernel has."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import world
from caller import Caller, caller
from injecting import NEEDS, injected, lease, planned
from test_run import Shell
from traffic import likely

from chaosd.engine import LEASE
from chaosd.errors import UnsupportedError
from chaosd.faults._syscall import SyscallFault
from chaosd.faults.base import Planning
from chaosd.faults.fd_exhaust import FdExhaust
from chaosd.faults.memory_alloc_fail import MemoryAllocFail
from chaosd.faults.process_exec_fail import ProcessExecFail
from chaosd.faults.process_fork_fail import ProcessForkFail
from chaosd.faults.syscall_delay import SyscallDelay
from chaosd.faults.syscall_error import SyscallError
from chaosd.kernel.process import ProcessRef, descendants
from chaosd.targets.model import Target
from chaosd.units import Duration, Percent

OPEN = ["files.open"]


@pytest.fixture
def target() -> Iterator[Caller]:
    with caller() as child:
        yield child


@pytest.fixture
def neighbor() -> Iterator[Caller]:
    with caller() as child:
        yield child


def aimed(child: Caller) -> Target:
    return Target(f"pid:{child.pid}", processes=(ProcessRef.of(child.pid),))


def failed(said: list[str]) -> list[int]:
    return [number for number, result in enumerate(said) if result != "ok"]


def test_a_budget_is_kept_to_the_call(mechanism: str, target: Caller, neighbor: Caller, file: Path) -> None:
    """Of a prime number of calls exactly as many fail as were asked for, and only the target's."""
    fault = SyscallError(syscalls=OPEN, errno="EIO", budget=23, mechanism=mechanism)
    with injected(fault, aimed(target)) as run:
        assert target.make("open", file, 101) == ["EIO"] * 23 + ["ok"] * 78
        assert neighbor.make("open", file, 101) == ["ok"] * 101
        assert (run.evidence.matched, run.evidence.injected) == (101, 23)
        assert run.evidence.skipped == {"budget": 78}
        assert run.evidence.processes == {target.pid: 23}
    assert target.make("open", file, 3) == ["ok"] * 3


def test_turns_are_kept(mechanism: str, target: Caller, file: Path) -> None:
    fault = SyscallError(syscalls=OPEN, errno="EMFILE", after=5, first=60, every=7, mechanism=mechanism)
    with injected(fault, aimed(target)) as run:
        assert failed(target.make("open", file, 97)) == [5, 12, 19, 26, 33, 40, 47, 54, 61]
        assert run.evidence.skipped == {"turn": 88}


def test_a_share_lies_in_its_interval(mechanism: str, target: Caller, file: Path) -> None:
    count = 20_011 if mechanism == "ptrace" else 100_003
    fault = SyscallError(syscalls=OPEN, errno="EIO", probability=Percent(30), mechanism=mechanism)
    with injected(fault, aimed(target)) as run:
        hit = len(failed(target.make("open", file, count)))
        assert hit in likely(count, 0.3)
        assert (run.evidence.matched, run.evidence.injected) == (count, hit)


def test_a_seed_decides_the_same_again_by_every_mechanism(target: Caller, file: Path) -> None:
    usable = [name for name in ("override", "security", "ptrace") if all(need().ok for need in NEEDS[name])]
    found = []
    for name in [*usable, usable[0]]:
        fault = SyscallError(syscalls=OPEN, errno="EIO", probability=Percent(40), mechanism=name)
        with injected(fault, aimed(target), seed=4711):
            found.append(failed(target.make("open", file, 199)))
    assert len(found) >= 2
    assert all(one == found[0] for one in found)
    with injected(fault, aimed(target), seed=4712):
        assert failed(target.make("open", file, 199)) != found[0]


@pytest.mark.parametrize("how", ["child", "thread"])
def test_children_and_threads_made_later_are_hit(
    mechanism: str, target: Caller, file: Path, how: str
) -> None:
    with injected(SyscallError(syscalls=OPEN, errno="EPERM", mechanism=mechanism), aimed(target)):
        assert target.make("open", file, 5, how) == ["EPERM"] * 5


def test_of_several_calls_each_is_counted(mechanism: str, target: Caller, file: Path) -> None:
    fault = SyscallError(syscalls=["files.open", "files.stat"], errno="EACCES", mechanism=mechanism)
    with injected(fault, aimed(target)) as run:
        assert target.make("open", file, 7) == ["EACCES"] * 7
        assert target.make("stat", file, 11) == ["EACCES"] * 11
        assert run.evidence.injected == 18


@pytest.mark.parametrize("what", ["open", "relative", "dirfd"])
@pytest.mark.parametrize("form", ["{folder}", "{folder}/file", "{folder}/f?l*", "/**/file"])
def test_a_path_is_met_however_it_is_named(
    target: Caller, file: Path, tmp_path_factory: pytest.TempPathFactory, what: str, form: str
) -> None:
    other = tmp_path_factory.mktemp("other") / "elif"
    other.write_text("x", "ascii")
    fault = SyscallError(syscalls=OPEN, errno="EIO", path=form.format(folder=file.parent), every=2)
    _best(fault)
    with injected(fault, aimed(target)) as run:
        said = target.make(what, file, 6)
        assert said == ["EIO", "ok"] * 3, run.evidence
        assert target.make(what, other, 4) == ["ok"] * 4


def _best(fault: SyscallFault) -> None:
    """Skip where nothing here can do it."""
    try:
        fault.choose()
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("what", ["pread", "pwrite", "fsync"])
def test_a_descriptor_is_known_by_its_path(mechanism: str, target: Caller, file: Path, what: str) -> None:
    if (mechanism, what) == ("security", "fsync"):
        pytest.skip("no security module is asked about fsync")
    other = file.with_name("other")
    other.write_text("x", "ascii")
    calls = {"pread": "pread64", "pwrite": "pwrite64"}.get(what, what)
    fault = SyscallError(syscalls=[calls], errno="EIO", path=str(file), mechanism=mechanism)
    with injected(fault, aimed(target)) as run:
        assert target.make(what, file, 5) == ["EIO"] * 5
        assert target.make(what, other, 5) == ["ok"] * 5
        assert run.evidence.matched == 5


@pytest.mark.parametrize(
    ("what", "calls"), [("unlink", ["files.remove"]), ("mkdir", ["files.make"]), ("stat", ["files.stat"])]
)
def test_what_has_a_path_fails_before_it_does_anything(
    mechanism: str, target: Caller, file: Path, what: str, calls: list[str]
) -> None:
    path = file.with_name("new") if what == "mkdir" else file
    with injected(SyscallError(syscalls=calls, errno="ENOSPC", mechanism=mechanism), aimed(target)):
        assert target.make(what, path, 3) == ["ENOSPC"] * 3
        assert file.exists()
        assert not file.with_name("new").exists()


def test_a_whole_cgroup_is_hit_whoever_joins_it(file: Path) -> None:
    world.need(*_kernel_rung())
    with world.cgroup() as cg, caller(cg) as first, caller() as outside:
        whole = Target("cgroup:test", cgroups={"": cg})
        with injected(SyscallError(syscalls=OPEN, errno="EIO"), whole), caller() as later:
            Path(cg.path, "cgroup.procs").write_text(str(later.pid), "ascii")
            assert first.make("open", file, 3) == ["EIO"] * 3
            assert later.make("open", file, 3) == ["EIO"] * 3
            assert outside.make("open", file, 3) == ["ok"] * 3


def _kernel_rung() -> tuple[object, ...]:
    better = [name for name in ("override", "security") if all(need().ok for need in NEEDS[name])]
    return NEEDS[better[0] if better else "security"]


def test_what_was_hit_is_told_one_by_one(mechanism: str, target: Caller, file: Path) -> None:
    fault = SyscallError(syscalls=["pread64"], errno="EIO", path=str(file), mechanism=mechanism)
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    with injected(fault, aimed(target)) as run:
        target.make("pread", file, 3)
        found = []
        world.until(lambda: found.extend(run.hits()) or len(found) >= 3, "no hits were told")
    assert [hit.call for hit in found] == ["pread64"] * 3
    assert {hit.pid for hit in found} == {target.pid}
    assert {hit.detail for hit in found} == {str(file)}
    assert {hit.result for hit in found} == {"EIO"}
    assert all(hit.comm.startswith("python") for hit in found)
    assert all(began < hit.t < time.clock_gettime(time.CLOCK_BOOTTIME) for hit in found)


def test_when_the_lease_ends_calls_succeed(mechanism: str, target: Caller, file: Path) -> None:
    with injected(SyscallError(syscalls=OPEN, errno="EIO", mechanism=mechanism), aimed(target)) as run:
        assert target.make("open", file) == ["EIO"]
        lease(-1)
        assert target.make("open", file, 3) == ["ok"] * 3
        assert run.evidence.skipped == {"lease": 3}


def test_forks_and_threads_that_fail(mechanism: str, target: Caller, file: Path) -> None:
    with injected(ProcessForkFail(mechanism=mechanism), aimed(target)):
        assert target.make("fork", file, 3) == ["EAGAIN"] * 3
        assert target.make("thread", file, 3) == ["RuntimeError"] * 3
    assert target.make("fork", file, 2) == ["ok"] * 2


def test_programs_that_cannot_be_started(mechanism: str, target: Caller, file: Path) -> None:
    with injected(ProcessExecFail(errno="ENOMEM", mechanism=mechanism), aimed(target)) as run:
        assert target.make("exec", "/bin/true", 3) == ["ENOMEM"] * 3
        assert run.evidence.injected == 3


def test_descriptors_that_run_out(target: Caller, file: Path) -> None:
    fault = FdExhaust(after=2)
    _best(fault)
    with injected(fault, aimed(target)):
        assert target.make("open", file, 5) == ["ok", "ok", "EMFILE", "EMFILE", "EMFILE"]


def test_memory_that_runs_out(mechanism: str, target: Caller) -> None:
    """A thread needs a new stack, which is mapped."""
    with injected(MemoryAllocFail(mechanism=mechanism), aimed(target)) as run:
        assert target.make("thread", "-", 2) == ["RuntimeError"] * 2
        assert run.evidence.injected >= 2


def test_calls_that_take_longer(target: Caller, file: Path) -> None:
    world.need(*NEEDS["ptrace"])
    fault = SyscallDelay(syscalls=OPEN, delay=Duration(0.1), jitter=Duration(0.05), budget=3)
    with injected(fault, aimed(target)) as run:
        began = time.monotonic()
        assert target.make("open", file, 5) == ["ok"] * 5
        assert 0.15 <= time.monotonic() - began < 3
        assert (run.evidence.matched, run.evidence.injected) == (5, 3)


def test_a_mechanism_that_cannot_says_which_could() -> None:
    with pytest.raises(
        UnsupportedError, match=r"no security module is asked about fsync.*override.* or ptrace"
    ):
        SyscallError(syscalls=["fsync"], errno="EIO", mechanism="security").choose()


def test_a_plan_tells_calls_share_and_errno(target: Caller) -> None:
    fault = SyscallError(syscalls=["connect"], errno="EIO", probability=Percent(5), every=2, budget=7)
    assert fault.effect(aimed(target), Planning("abcdef", 0, 1, "", 1.0))[0] == (
        f"connect of pid:{target.pid} fail with EIO (5% of them, one in 2, 7 in all)"
    )


def test_what_counts_over_all_calls_is_counted_in_one_place(target: Caller) -> None:
    """open could be met in the kernel where fsync cannot; with a budget the tracer takes both."""
    world.need(*NEEDS["ptrace"])
    fault = SyscallError(syscalls=["openat", "fsync"], errno="EIO", budget=5)
    edits = planned(fault, aimed(target))
    assert len(edits) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (SyscallError(syscalls=["opneat"], errno="EIO"), "did you mean openat"),
        (SyscallError(syscalls=["openat"], errno="EOI"), "did you mean EIO"),
        (SyscallError(syscalls=["openat"], errno="ERESTART"), "unknown"),
        (SyscallError(syscalls=["openat"], errno="EIO", path="etc/passwd"), "not absolute"),
        (SyscallError(syscalls=["openat"], errno="EIO", path="/etc/../passwd"), "plain path"),
        (SyscallError(syscalls=["exit_group"], errno="EIO"), "no program survives"),
        (SyscallError(syscalls=["getpid"], errno="EIO", path="/etc"), "works on no file"),
        (SyscallError(syscalls=["openat"], errno="EIO", ports=[5432]), "works on no socket"),
        (SyscallError(syscalls=["connect"], errno="EINTR"), "success"),
        (SyscallError(syscalls=["connect"], errno="EIO", ports=["x"]), "such as 5432"),
        (SyscallError(syscalls=["connect"], errno="EIO", cidrs=["10.0.0.0/99"]), "such as 10.0.0.0/8"),
        (SyscallError(syscalls=["openat"], errno="EIO", probability=Percent(0)), "0% hits nothing"),
        (SyscallDelay(syscalls=["read"], delay=Duration(0)), "delays nothing"),
        (SyscallDelay(syscalls=["read"], delay=Duration(1), jitter=Duration(2)), "more than the delay"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(fault: SyscallFault, said: str) -> None:
    problems = fault.check()
    assert len(problems) == 1
    assert said in problems[0]
    assert "\n" not in problems[0]


def test_nothing_of_ours_is_hit(file: Path) -> None:
    """Chaosd and what it has started are exempt although the whole host is the target."""
    world.need(*NEEDS["security"])
    fault = SyscallError(syscalls=OPEN, errno="EIO", path=str(file), mechanism="security")
    with caller() as other, injected(fault, Target("host")):
        os.close(os.open(file, os.O_RDONLY))
        assert other.make("open", file) == ["ok"]  # a child of ours, and so of those who started us


def test_with_everybody_dead_calls_succeed_again(
    mechanism: str, target: Caller, file: Path, tmp_path: Path
) -> None:
    """Engine, watchdog and tracer are killed at once; nobody is left to put anything back."""
    with ExitStack() as stack:
        shell = Shell(stack, tmp_path)
        fields = ("syscalls=[files.open]", "errno=EIO", f"mechanism={mechanism}")
        process = shell.start(
            "inject", "syscall.error", *fields, "--target", f"pid:{target.pid}", "--duration", "60s"
        )
        shell.wait_phase("fault")
        world.until(lambda: target.make("open", file) == ["EIO"], "the fault is not in force")
        world.until(lambda: '"detail"' in shell.run("status", "--json")[1], "status shows no hit")
        for pid in (*descendants(process.pid), process.pid):
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        process.wait()
        while target.make("open", file) != ["ok"]:
            assert time.monotonic() < killed + LEASE + 0.5, "the fault outlived its lease"
        assert shell.run("revert", "--all")[0] == 0
        assert target.make("open", file, 3) == ["ok"] * 3
