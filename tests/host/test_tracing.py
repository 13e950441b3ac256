"""System calls by ptrace: exactly those that are meant fail or wait, and the target never knows."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import traffic
import world
from injecting import applied, lease
from tracee import Tracee, state_of, tracee, tracer_of

from chaosd.errors import ChaosdError
from chaosd.kernel import bpf
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.edit import Undo
from chaosd.kernel.match import Filters, Rule
from chaosd.kernel.syscalls import Calls, expand
from chaosd.kernel.tasks import Members
from chaosd.kernel.tracer_child import tracers
from chaosd.kernel.tracer_rule import mix
from chaosd.kernel.tracing import PTRACE

PRIME = 997
X86 = os.uname().machine == "x86_64"


@pytest.fixture
def target() -> Iterator[Tracee]:
    world.need(PTRACE)
    with tracee() as child:
        yield child


def _hit(said: list[str]) -> list[int]:
    assert set(said) <= {"ok", "EXFULL"}
    return [number for number, result in enumerate(said) if result == "EXFULL"]


def test_every_call_that_is_meant_fails_and_no_other(target: Tracee) -> None:
    with tracee() as neighbor, target.traced() as edit:
        assert target.ask(f"tries({PRIME})") == ["EXFULL"] * PRIME
        assert target.ask("tries(10, os.getpriority, 0, 0)") == ["ok"] * 10
        assert neighbor.ask("tries(100)") == ["ok"] * 100
        found = edit.evidence()
        assert found is not None
        assert (found.matched, found.injected, found.unit) == (PRIME, PRIME, "calls")
        assert found.processes == {target.pid: PRIME}
        assert edit.lost() == ""
    assert target.ask("tries(100)") == ["ok"] * 100


def test_a_budget_is_kept_to_the_call_over_all_threads(target: Tracee) -> None:
    target.ask("workers.extend(Worker() for _ in range(4))")
    with target.traced(rule=Rule(7, budget=23)) as edit:
        target.ask("[w.begin(lambda: tries(499)) for w in workers]")
        said = target.ask("[result for w in workers for result in w.end()]")
        assert Counter(said) == {"EXFULL": 23, "ok": 4 * 499 - 23}
        found = edit.evidence()
        assert found is not None
        assert (found.matched, found.injected) == (4 * 499, 23)
        assert found.skipped == {"budget": 4 * 499 - 23}


def test_a_share_of_calls(target: Tracee) -> None:
    with target.traced(rule=Rule(11, worsen=0.1)) as edit:
        failed = len(_hit(target.ask("tries(20000)")))
        found = edit.evidence()
        assert found is not None
        assert failed == found.injected
        assert found.skipped == {"probability": 20000 - failed}
        assert failed in traffic.likely(20000, 0.1)


def test_the_same_seed_fails_the_same_calls(target: Tracee) -> None:
    runs = []
    for seed in (42, 42, 43):
        with target.traced(rule=Rule(seed, worsen=0.25)):
            runs.append(_hit(target.ask("tries(400)")))
    assert runs[0] == runs[1] != runs[2]
    # as probes/include/number.h and rule.h have it
    assert runs[0] == [number for number in range(400) if mix(42 ^ mix(number)) >> 32 < 1 << 30]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(1, after=5, first=7), list(range(5, 12))),
        (Rule(1, every=10), [0, 10, 20, 30]),
        (Rule(1, after=3, first=12, every=4), [3, 7, 11]),
        (Rule(1, after=30, budget=2), [30, 31]),
    ],
)
def test_turns(target: Tracee, rule: Rule, expected: list[int]) -> None:
    with target.traced(rule=rule):
        assert _hit(target.ask("tries(40)")) == expected


def test_threads_made_before_and_after(target: Tracee) -> None:
    target.ask("workers.extend(Worker() for _ in range(8))")
    with target.traced():
        target.ask("workers.extend(Worker() for _ in range(8))")
        target.ask("[w.begin(lambda: tries(13)) for w in workers]")
        assert target.ask("[w.end() for w in workers]") == [["EXFULL"] * 13] * 16
    target.ask("[w.begin(lambda: tries(13)) for w in workers]")
    assert target.ask("[w.end() for w in workers]") == [["ok"] * 13] * 16


_CHILD = "import os, sys\ntry: os.sched_yield()\nexcept OSError as e: sys.exit(e.errno)"


def test_children_by_fork_and_by_vfork_and_exec(target: Tracee) -> None:
    target.ask("forked = lambda: (p := os.fork()) or os._exit(len(set(tries(5)) - {'ok'}))")
    with target.traced() as edit:
        assert target.ask("os.waitstatus_to_exitcode(os.waitpid(forked(), 0)[1])") == 1
        for _ in range(3):
            code = f"subprocess.run([sys.executable, '-c', {_CHILD!r}]).returncode"
            assert target.ask(code) == errno.EXFULL
        found = edit.evidence()
        assert found is not None
        assert len(found.processes) == 4
        assert sorted(found.processes.values()) == [1, 1, 1, 5]
    assert target.ask(f"subprocess.run([sys.executable, '-c', {_CHILD!r}]).returncode") == 0


def test_a_child_that_outlives_its_parent_is_let_go_too(target: Tracee) -> None:
    target.ask("forked = lambda: (p := os.fork()) or os.execvp('sleep', ['sleep', '60'])")
    with target.traced():
        child = target.ask("forked()")
        world.until(lambda: tracer_of(child) != 0, "the child is not traced")
        assert tracer_of(child) == tracer_of(target.pid)
    assert tracer_of(child) == 0
    os.kill(child, signal.SIGTERM)
    assert target.ask(f"os.waitpid({child}, 0)[1]") == signal.SIGTERM


@pytest.mark.parametrize("thread", [False, True])
def test_exec_in_the_middle(target: Tracee, thread: bool) -> None:
    target.ask("workers.extend(Worker() for _ in range(3))")
    with target.traced() as edit:
        assert target.ask("tries(3)") == ["EXFULL"] * 3
        again = "os.execv(sys.executable, [sys.executable, '-c', sys.orig_argv[2]])"
        target.send(f"workers[0].begin(lambda: {again}) or time.sleep(60)" if thread else again)
        target.started()
        assert target.ask("tries(5)") == ["EXFULL"] * 5
        found = edit.evidence()
        assert found is not None
        assert found.processes == {target.pid: 8}
    assert target.ask("tries(5)") == ["ok"] * 5


@pytest.mark.skipif(not X86, reason="int 0x80 is x86's")
def test_callers_of_32_bit_system_calls(target: Tracee, tmp_path: Path) -> None:
    target.ask(f"fd = os.open({str(tmp_path / 'f')!r}, os.O_CREAT | os.O_RDWR)")
    if not target.ask("takes_int80()"):
        pytest.skip("this kernel has no 32-bit system calls")
    target.ask("fsync32 = by_int80(118)")
    with target.traced("fsync", path=str(tmp_path), rule=Rule(1, budget=11)) as edit:
        assert target.ask("[fsync32(fd) for _ in range(17)]") == [-errno.EXFULL] * 11 + [0] * 6
        # 118 is getresuid for 64-bit callers
        assert target.ask("[len(os.getresuid()) for _ in range(3)]") == [3] * 3
        found = edit.evidence()
        assert found is not None
        assert found.matched == 17


@pytest.mark.parametrize(
    ("call", "hit"),
    [
        ("lambda: open('{0}/a/x')", True),
        ("os.open, '{0}/a/x', 0", True),
        ("os.open, '{0}/b/../a/./x', 0", True),
        ("os.open, 'a/x', 0", True),
        ("os.open, '../{1}/a/x', 0", True),
        ("lambda: os.open('x', 0, dir_fd=a)", True),
        ("os.open, '{0}/a', 0", True),
        ("os.open, '{0}/ab/x', 0", False),
        ("lambda: os.open('x', 0, dir_fd=b)", False),
        ("os.read, ax, 1", True),
        ("os.read, bx, 1", False),
        ("os.stat, '{0}/a/x'", True),
        ("lambda: os.stat('a/x', follow_symlinks=False)", True),
        ("os.stat, '{0}/b/x'", False),
        ("os.rename, '{0}/b/x', '{0}/a/y'", True),
        ("os.unlink, '{0}/a/x'", True),
        ("os.fsync, ax", True),
    ],
)
def test_paths(target: Tracee, tmp_path: Path, call: str, hit: bool) -> None:
    for folder in ("a", "b", "ab"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("x")
    target.ask(f"os.chdir({str(tmp_path)!r})")
    target.ask("a, b, ax, bx = (os.open(f, 0) for f in ('a', 'b', 'a/x', 'b/x'))")
    names = expand(["files.open", "files.read", "files.stat", "files.rename", "files.remove", "files.sync"])
    call = call.format(tmp_path, tmp_path.name)
    calls = Calls(tuple(name for name in names if name != "msync"), f"{tmp_path}/a")
    with target.traced(calls=calls) as edit:
        assert target.ask(f"outcome({call})") == ("EXFULL" if hit else "ok")
        assert [found.detail.startswith(f"{tmp_path}/a") for found in edit.hits()] == [True] * hit


@pytest.mark.parametrize(
    ("pattern", "hit"), [("/*/x", False), ("/?/x", True), ("/**/x", True), ("/*", False)]
)
def test_patterns(target: Tracee, tmp_path: Path, pattern: str, hit: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    deep = pattern.startswith("/*/")
    path = f"{tmp_path.parent if deep else tmp_path}{pattern}"
    with target.traced("openat", path=path):
        assert target.ask(f"outcome(os.open, '{tmp_path}/a/x', 0)") == ("EXFULL" if hit else "ok")


PORT, OTHER = 7001, 7002


def _sockets(names: list[str], **filters: object) -> Calls:
    return Calls(expand(names), sockets=Filters(**filters))  # type: ignore[arg-type]


def test_the_far_end_of_sockets() -> None:
    world.need(PTRACE)
    with world.netns() as ns, traffic.echo(ns, PORT, OTHER), tracee(ns=ns) as target:
        target.ask("to = lambda h, p: outcome(socket.create_connection, (h, p))")
        with target.traced(calls=_sockets(["connect"], ports=((PORT, PORT),))) as edit:
            said = [target.ask(f"to({h!r}, {p})") for h in ("127.0.0.1", "::1") for p in (PORT, OTHER)]
            assert said == ["EXFULL", "ok", "EXFULL", "ok"]
            assert [hit.detail for hit in edit.hits()] == [f"127.0.0.1:{PORT}", f"[::1]:{PORT}"]
        where = {"cidrs": ("127.0.0.0/24",), "exclude": ("127.0.0.2",), "protocol": "tcp"}
        with target.traced(calls=_sockets(["connect"], **where)):
            hosts = ("127.0.0.1", "127.0.0.2", "127.0.1.1", "::ffff:127.0.0.1", "::1")
            said = [target.ask(f"to({host!r}, {PORT})") for host in hosts]
            assert said == ["EXFULL", "ok", "ok", "EXFULL", "ok"]


def test_standing_connections_datagrams_and_own_addresses() -> None:
    world.need(PTRACE)
    with world.netns() as ns, traffic.echo(ns, PORT, OTHER), tracee(ns=ns) as target:
        target.ask(f"one = socket.create_connection(('127.0.0.1', {PORT}))")
        target.ask(f"two = socket.create_connection(('127.0.0.1', {OTHER}))")
        target.ask("udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        groups = ["sockets.send", "sockets.bind", "sockets.listen", "write"]
        with target.traced(calls=_sockets(groups, ports=((PORT, PORT),))):
            assert target.ask("outcome(one.send, b'x'), outcome(two.send, b'x')") == ("EXFULL", "ok")
            assert target.ask("outcome(os.write, one.fileno(), b'x')") == "EXFULL"
            assert target.ask("outcome(os.write, two.fileno(), b'x')") == "ok"
            for port, result in ((PORT, "EXFULL"), (OTHER, "ok")):
                assert target.ask(f"outcome(udp.sendto, b'x', ('127.0.0.1', {port}))") == result
                assert target.ask(f"outcome(udp.sendmsg, [b'x'], [], 0, ('127.0.0.1', {port}))") == result
            assert target.ask(f"outcome(socket.socket().bind, ('127.0.0.9', {PORT}))") == "EXFULL"
            assert target.ask("outcome(socket.socket().listen)") == "ok"  # on a port that nobody chose


def test_a_delay_holds_one_thread_while_the_others_go_on(target: Tracee) -> None:
    target.ask("workers.extend(Worker() for _ in range(2))")
    with target.traced("fdatasync", delay=0.4) as edit:
        target.ask("os.sched_yield()")
        target.ask("fd = os.memfd_create('x')")
        target.ask("timed = lambda: (t := time.monotonic()) and os.fdatasync(fd) or time.monotonic() - t")
        target.ask("[w.begin(timed) for w in workers]")
        begun, rounds = time.monotonic(), 0
        while time.monotonic() < begun + 0.3:
            rounds += target.ask("len(tries(3))")
        assert rounds > 30
        for took in target.ask("[w.end() for w in workers]"):
            assert 0.4 <= took < 0.5
        assert [hit.result for hit in edit.hits()] == ["400ms"] * 2


@pytest.mark.alone
def test_jitter_fills_its_range(target: Tracee) -> None:
    target.ask("timed = lambda: (t := time.monotonic()) and os.sched_yield() or time.monotonic() - t")
    with target.traced(delay=0.005, jitter=0.004):
        took = sorted(target.ask("[timed() for _ in range(200)]"))
    assert took[0] >= 0.001
    assert 0.001 <= took[20] < 0.0025
    assert 0.0045 <= took[100] < 0.006
    assert 0.0078 < took[180] < 0.0105


def test_signals_arrive(target: Tracee) -> None:
    target.ask("[signal.signal(signal.SIGUSR1, lambda *_: got.append(1))] and None")
    with target.traced():
        for count in range(1, 51):
            os.kill(target.pid, signal.SIGUSR1)
            world.until(lambda count=count: target.ask("len(got)") == count, "a signal was lost")
        assert target.ask("tries(3)") == ["EXFULL"] * 3


def test_stop_and_continue(target: Tracee) -> None:
    target.ask("workers.extend(Worker() for _ in range(3))")
    with target.traced():
        os.kill(target.pid, signal.SIGSTOP)
        assert os.waitpid(target.pid, os.WUNTRACED) == (target.pid, signal.SIGSTOP << 8 | 0x7F)
        target.send("tries(2)")
        time.sleep(0.1)
        assert state_of(target.pid) in "tT"
        os.kill(target.pid, signal.SIGCONT)
        assert os.waitpid(target.pid, os.WCONTINUED) == (target.pid, 0xFFFF)
        assert target.answer() == ["EXFULL"] * 2


def test_a_stopped_process_stays_stopped(target: Tracee) -> None:
    os.kill(target.pid, signal.SIGSTOP)
    world.until(lambda: state_of(target.pid) == "T", "it does not stop")
    with target.traced():
        time.sleep(0.1)
        assert state_of(target.pid) in "tT"
    world.until(lambda: state_of(target.pid) == "T", "it goes on")
    os.kill(target.pid, signal.SIGCONT)
    assert target.ask("tries(2)") == ["ok"] * 2


@pytest.mark.skipif(not X86, reason="arm64 has decided on a restart before it stops")
def test_calls_that_any_stop_would_interrupt_go_on_waiting(target: Tracee) -> None:
    target.ask("r, w = os.pipe()")
    target.ask("poll = select.epoll(); poll.register(r, select.EPOLLIN)")
    target.ask("workers.append(Worker())")
    target.ask("space = ctypes.create_string_buffer(64)")
    target.ask("workers[0].begin(lambda: raw(libc.epoll_wait, poll.fileno(), space, 4, 30000))")
    time.sleep(0.2)
    with target.traced():
        time.sleep(0.2)
        os.kill(target.pid, signal.SIGWINCH)  # ignored; to a traced process it is delivered
        time.sleep(0.1)
    time.sleep(0.1)
    assert not target.ask("workers[0].done.is_set()")
    target.ask("os.write(w, b'x')")
    assert target.ask("workers[0].end()") == (1, 0)


def test_when_the_lease_ends_calls_are_made_and_who_waits_goes_on(target: Tracee) -> None:
    with target.traced() as edit:
        assert target.ask("tries(2)") == ["EXFULL"] * 2
        lease(-1)
        assert target.ask("tries(3)") == ["ok"] * 3
        found = edit.evidence()
        assert found is not None
        assert (found.matched, found.injected, found.skipped) == (5, 2, {"lease": 3})
        assert edit.present()
    with target.traced(delay=60):
        target.send("tries(1)")
        time.sleep(0.2)
        lease(-1)
        begun = time.monotonic()
        assert target.answer() == ["ok"]
        assert time.monotonic() - begun < 1


def test_a_tracer_that_is_killed_leaves_the_target_to_itself(target: Tracee) -> None:
    for _ in range(20):
        with target.traced() as edit:
            target.send("tries(5000)")
            time.sleep(0.01)
            os.kill(tracer_of(target.pid), signal.SIGKILL)
            said = target.answer()
            failed = len(_hit(said))  # nothing but the errno that was chosen, and success
            assert said == ["EXFULL"] * failed + ["ok"] * (5000 - failed)
            assert tracer_of(target.pid) == 0
            assert "exit status -9" in edit.lost()
            assert target.ask("tries(7)") == ["ok"] * 7


def test_a_tracer_that_is_killed_lets_go_who_waits(target: Tracee) -> None:
    with target.traced(delay=60) as edit:
        target.send("tries(1)")
        time.sleep(0.2)
        begun = time.monotonic()
        os.kill(tracer_of(target.pid), signal.SIGKILL)
        assert target.answer() == ["ok"]
        assert time.monotonic() - begun < 1
        assert not edit.present()


def test_a_revert_lets_go_who_waits_and_can_be_repeated(target: Tracee) -> None:
    edit = target.trace(delay=60)
    edit.apply()
    lease(120)
    target.send("tries(1)")
    time.sleep(0.2)
    begun = time.monotonic()
    assert edit.revert() is Undo.DONE
    assert target.answer() == ["ok"]
    assert time.monotonic() - begun < 1
    assert edit.revert() is Undo.GONE
    assert (edit.present(), edit.evidence(), edit.hits()) == (False, None, [])


_ENGINE = """
import json, sys, time
sys.path[:0] = [{root!r}, {root!r} + "/tests/host"]
from chaosd.kernel.edit import from_data
from chaosd.kernel import bpf
edit = from_data(json.loads({edit!r}))
{does}
"""


def _elsewhere(edit: object, does: str) -> list[str]:
    import json

    from chaosd.kernel.edit import to_data

    root = str(Path(__file__).parents[2])
    return world.python(_ENGINE.format(root=root, edit=json.dumps(to_data(edit)), does=does))  # type: ignore[arg-type]


def test_another_process_can_revert_also_a_tracer_that_is_stopped(target: Tracee) -> None:
    for stopped in (False, True):
        with target.traced() as edit:
            assert target.ask("tries(2)") == ["EXFULL"] * 2
            if stopped:
                os.kill(tracer_of(target.pid), signal.SIGSTOP)
                world.until(lambda: edit.lost(), "it is not missed")
            does = "print(edit.present(), edit.revert(), edit.revert(), edit.present())"
            done = subprocess.run(_elsewhere(edit, does), capture_output=True, text=True, check=True)
            assert done.stdout == "True undone already gone False\n"
            assert target.ask("tries(2)") == ["ok"] * 2
            assert edit.lost()


def test_a_tracer_that_is_slow_to_start_is_waited_for_and_touches_nothing(target: Tracee) -> None:
    edit = target.trace(error=errno.EXFULL)
    edit.prepare()
    (tracer,) = tracers(edit.run, edit.index)
    os.kill(tracer, signal.SIGSTOP)
    began = time.monotonic()
    assert not edit.ready()
    assert time.monotonic() - began < 0.5, "whoever asks goes on giving its pulse"
    assert (tracer_of(target.pid), edit.present()) == (0, False)
    os.kill(tracer, signal.SIGCONT)
    world.until(edit.ready, "it does not start")
    assert tracer_of(target.pid) == 0
    with applied([edit]):
        assert tracer_of(target.pid) == tracer
        assert target.ask("tries(2)") == ["EXFULL"] * 2
    assert not [*tracers(edit.run, edit.index)]


def test_a_tracer_that_dies_before_it_is_needed_is_said(target: Tracee) -> None:
    edit = target.trace(error=errno.EXFULL)
    edit.prepare()
    # exec lets go of its parent before the arguments can be read
    world.until(lambda: [*tracers(edit.run, edit.index)], "there is no tracer")
    (tracer,) = tracers(edit.run, edit.index)
    os.kill(tracer, signal.SIGKILL)
    with pytest.raises(ChaosdError, match="the tracer did not start: exit status -9"):
        world.until(edit.ready, "nothing is said")
    assert target.ask("tries(2)") == ["ok"] * 2


def test_a_tracer_that_is_never_told_what_to_do_ends_with_its_engine(target: Tracee) -> None:
    edit = target.trace(error=errno.EXFULL)
    with world.spawn(_elsewhere(edit, "edit.prepare(); print('on', flush=True); time.sleep(60)")) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "on\n"
        world.until(lambda: len([*tracers(edit.run, edit.index)]) == 1, "there is not one tracer")
        engine.kill()
        world.until(lambda: not [*tracers(edit.run, edit.index)], "the tracer lives on", 3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_an_engine_that_dies_takes_its_tracer_along(target: Tracee, number: int, delay: float) -> None:
    edit = target.trace(delay=delay, error=errno.EXFULL)
    leased = "bpf.renew(time.clock_gettime(time.CLOCK_BOOTTIME) + 60)"
    does = f"edit.apply(); {leased}; print('on', flush=True); time.sleep(60)"
    with world.spawn(_elsewhere(edit, does)) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "on\n"
        tracer = tracer_of(target.pid)
        target.send("tries(1)")
        time.sleep(0.1)
        engine.send_signal(number)
        assert target.answer() == ["EXFULL"]
        world.until(lambda: not Path(f"/proc/{tracer}").exists(), "the tracer lives on", 3)
        assert tracer_of(target.pid) == 0
        assert target.ask("tries(3)") == ["ok"] * 3


def test_a_process_that_is_traced_already_is_refused(target: Tracee) -> None:
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(target.pid)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as strace:
        world.until(lambda: tracer_of(target.pid), "strace does not attach")
        with pytest.raises(ChaosdError, match=rf"traced already, by strace \({strace.pid}\)") as refused:
            target.trace(error=5).apply()
        assert "\n" not in str(refused.value)
        strace.terminate()
    assert tracer_of(target.pid) == 0
    assert target.ask("tries(3)") == ["ok"] * 3


def test_half_a_target_is_let_go_when_the_other_half_is_traced_already(target: Tracee) -> None:
    with tracee() as second:
        both = Members(target.members.attach, False, target.members.processes + second.members.processes)
        with second.traced():
            with pytest.raises(ChaosdError, match="traced already"):
                target.trace(members=both, error=5).apply()
            assert tracer_of(target.pid) == 0
            assert target.ask("tries(3)") == ["ok"] * 3


def test_all_of_a_cgroup_but_never_the_engine() -> None:
    world.need(PTRACE)
    with world.cgroup() as cg, tracee(cg=cg) as one, tracee(cg=cg) as two, tracee() as other:
        with one.traced(members=Members(cg, entire=True)):
            assert [child.ask("tries(2)")[0] for child in (one, two, other)] == ["EXFULL", "EXFULL", "ok"]
        home = CgroupRef.at(str(world.cgroup_root()))
        procs = Path(cg.path, "cgroup.procs")
        before = Path(home.path, _own_v2().lstrip("/"), "cgroup.procs")
        procs.write_text(str(os.getpid()))
        try:
            with one.traced(members=Members(cg, entire=True)):
                assert tracer_of(os.getpid()) == 0
                assert one.ask("tries(2)") == ["EXFULL"] * 2
        finally:
            before.write_text(str(os.getpid()))


def _own_v2() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith("0::"))[3:]


def test_a_target_that_ends_is_no_trouble(target: Tracee) -> None:
    edit = target.trace(delay=60)
    edit.apply()
    lease(120)
    target.send("tries(1)")
    time.sleep(0.1)
    os.kill(target.pid, signal.SIGKILL)
    assert os.waitpid(target.pid, 0)[1] == signal.SIGKILL
    assert edit.lost() == ""
    assert not edit.present()
    assert edit.revert() is Undo.DONE
    bpf.renew(0)


def test_filters_that_make_no_sense_are_refused(target: Tracee) -> None:
    for calls in (
        Calls(("sched_yield",), path="/tmp"),
        Calls(("read",), path="tmp"),
        Calls(("openat",), sockets=Filters(ports=((1, 1),))),
    ):
        with pytest.raises(ChaosdError) as refused:
            target.trace(calls=calls, error=5).apply()
        assert "\n" not in str(refused.value)
    assert tracer_of(target.pid) == 0
