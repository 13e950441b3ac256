"""chaosd exec: commands under faults from their first instruction on, and what is left of them."""

from __future__ import annotations

import errno
import http.server
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from caller import caller
from launching import TRIES, Exec, commands, name_of
from test_syscall_reach import COMPAT, need_compat
from world import need, until

from chaosd.kernel.capability_network import GATE
from chaosd.kernel.notify import NOTIFY
from chaosd.kernel.process import descendants
from chaosd.kernel.tracing import PTRACE

YIELDS = "syscall.error mechanism=notify syscalls=[sched_yield] errno=EXFULL"
DURATION = "15s" if "CHAOSD_GUEST" in os.environ else "500ms"  # emulated, a Python takes seconds to start
HELD = "syscall.delay mechanism=notify syscalls=[sched_yield] delay=60s budget=1"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Exec]:
    with commands(tmp_path) as made:
        yield made


def test_exactly_as_many_calls_fail_as_were_asked_for(shell: Exec) -> None:
    need(NOTIFY)
    status, out, view = shell.python(f"{YIELDS} budget=23", "print(*tries(101), sep=',')")
    assert status == 0
    assert out == ",".join(["58" if at < 23 else "0" for at in range(101)]).replace("58", _exfull()) + "\n"
    (evidence,) = view["evidence"]
    assert (evidence["matched"], evidence["injected"]) == (101, 23)
    assert evidence["skipped"] == {"budget": 78}
    assert [hit["call"] for hit in view["hits"]] == ["sched_yield"] * len(view["hits"])
    assert view["plan"]["faults"][0]["mechanism"] == "notify"
    assert "keep a filter that lets everything pass" in view["plan"]["faults"][0]["edits"][0]
    assert (view["verdict"], view["restored"]["differs"]) == ("passed", [])


def _exfull() -> str:
    return str(errno.EXFULL)


def test_the_same_seed_fails_the_same_calls_as_ptrace_does(shell: Exec) -> None:
    need(NOTIFY, PTRACE)
    said = {}
    for mechanism, seed in (("notify", 42), ("ptrace", 42), ("notify", 43)):
        fault = f"syscall.error mechanism={mechanism} syscalls=[sched_yield] errno=EXFULL probability=25%"
        _, out, _ = shell.python(fault, "print(tries(400))", "--seed", str(seed))
        said[mechanism, seed] = out
    assert said["notify", 42] == said["ptrace", 42] != said["notify", 43]


def test_delays_and_their_jitter(shell: Exec) -> None:
    need(NOTIFY)
    code = """
def timed():
    began = time.monotonic()
    os.sched_yield()
    return time.monotonic() - began
print([timed() for _ in range(60)])
"""
    fault = "syscall.delay mechanism=notify syscalls=[sched_yield] delay=20ms jitter=10ms"
    _, out, view = shell.python(fault, code)
    times = sorted(json.loads(out))
    assert 0.0099 <= times[0] < 0.014
    assert times[-1] > 0.026
    assert 0.016 < times[len(times) // 2] < 0.025
    assert view["evidence"][0]["injected"] == 60


def test_others_go_on_while_one_is_held(shell: Exec) -> None:
    need(NOTIFY)
    code = """
import threading
def held():
    began = time.monotonic()
    os.sched_yield()
    took.append(time.monotonic() - began)
took = []
threads = [threading.Thread(target=held) for _ in range(20)]
began = time.monotonic()
[thread.start() for thread in threads]
count = 0
while time.monotonic() < began + 0.3:
    os.getppid()  # stopped, and let pass
    count += 1
[thread.join() for thread in threads]
print(len(took), min(took), max(took), count)
"""
    faults = [
        "syscall.delay mechanism=notify syscalls=[sched_yield] delay=500ms",
        "syscall.error mechanism=notify syscalls=[getppid] errno=EIO first=1",
    ]
    _, out, _ = shell.run(faults, [sys.executable, "-c", TRIES + code])
    held, least, most, count = (float(word) for word in out.split())
    assert held == 20
    assert least >= 0.5
    assert most < 0.8
    assert count > 300


def test_children_are_hit_and_a_bystander_is_not(shell: Exec) -> None:
    need(NOTIFY)
    code = """
import subprocess
child = os.fork()
if child == 0:
    os._exit(tries(7).count(errno.EXFULL))
code = "import os\\ntry: os.sched_yield()\\nexcept OSError as e: raise SystemExit(e.errno)"
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end=" ")
print(subprocess.run([sys.executable, "-c", code]).returncode)
sys.stdout.flush()
time.sleep(1)
"""
    with caller() as other:
        process = shell.start([YIELDS], [sys.executable, "-c", TRIES + code], "--json")
        assert process.stdout is not None
        assert process.stdout.readline() == f"7 {_exfull()}\n"
        assert other.make("thread", "-", 3) == ["ok"] * 3
        assert "Seccomp:\t0" in Path(f"/proc/{other.pid}/status").read_text("ascii")
        _, errors = process.communicate(timeout=30)
    (evidence,) = json.loads(errors)["evidence"]
    assert sorted(evidence["processes"].values()) == [1, 7]


def test_only_files_and_ports_that_are_meant(shell: Exec, tmp_path: Path) -> None:
    need(NOTIFY)
    for name in ("a", "b"):
        (tmp_path / name).write_text("x")
    code = f"""
import socket
def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"
os.chdir({str(tmp_path)!r})
print(outcome(open, "a"), outcome(open, "b"), outcome(open, {str(tmp_path / "x/../a")!r}))
for port in (5432, 5433):
    print(outcome(socket.create_connection, ("127.0.0.1", port)))
"""
    faults = [
        f"syscall.error mechanism=notify syscalls=[files.open] errno=EIO path={tmp_path}/a",
        "syscall.error mechanism=notify syscalls=[connect] errno=ENETDOWN ports=[5432]",
    ]
    status, out, errors = shell.run(faults, [sys.executable, "-c", TRIES + code], "--json")
    assert status == 0
    assert out.split() == ["EIO", "ok", "EIO", "ENETDOWN", "ECONNREFUSED"]
    view = json.loads(errors)
    assert [entry["injected"] for entry in view["evidence"]] == [2, 1]
    assert view["hits"][-1]["detail"] == "127.0.0.1:5432"


def test_32_bit_callers_are_met(shell: Exec, file: Path) -> None:
    need(NOTIFY)
    need_compat(file)
    fault = f"syscall.error mechanism=notify syscalls=[files.open] errno=EIO path={file} every=3"
    process = shell.start([fault], [sys.executable, "-c", COMPAT, str(file)], "--json")
    out, errors = process.communicate("13\n", timeout=60)
    assert out == "up\nEIO" + " ok ok EIO" * 4 + "\n"
    view = json.loads(errors)
    assert (view["evidence"][0]["matched"], view["evidence"][0]["injected"]) == (13, 5)
    assert {hit["call"] for hit in view["hits"]} == {"open"}


def test_the_start_of_the_command_itself_is_spared(shell: Exec) -> None:
    need(NOTIFY)
    fault = (
        "syscall.error mechanism=notify syscalls=[programs, files.read, sockets.receive] errno=EIO after=3"
    )
    status, out, _ = shell.run(
        [fault], ["sh", "-c", "echo begun; /bin/true; /bin/true; /bin/true; /bin/true"]
    )
    assert out == "begun\n"
    assert status in (126, 127)


@pytest.mark.parametrize(("argv", "status"), [(["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 137)])
def test_the_status_is_the_commands_own(shell: Exec, argv: list[str], status: int) -> None:
    need(NOTIFY)
    assert shell.run([f"{YIELDS}"], argv)[0] == status


def test_the_commands_streams_are_its_own(shell: Exec) -> None:
    need(NOTIFY)
    process = shell.start([YIELDS], ["sh", "-c", "read word; echo $word; echo wrong >&2"])
    out, errors = process.communicate("hello\n", timeout=30)
    assert out == "hello\n"
    assert errors.startswith("wrong\n")
    assert "inconclusive: syscall.error on pid:" in errors
    assert "host restored" in errors
    assert process.returncode == 0


BAD = [
    (["no-such-command"], [YIELDS], "there is no such command"),
    (["/etc/passwd"], [YIELDS], "is not a program"),
    (["true"], ["syscall.error syscalls=[opneat] errno=EIO"], "did you mean openat"),
    (["true"], ["syscal.error"], "did you mean syscall.error"),
    (["true"], ["syscall.error syscalls"], "is not KEY=VALUE"),
    (["true"], ["  "], "names no fault"),
    (["true"], ["network.delay delay=1"], "has no unit"),
]


@pytest.mark.parametrize(("argv", "faults", "said"), BAD)
def test_what_is_refused_changes_nothing(shell: Exec, argv: list[str], faults: list[str], said: str) -> None:
    status, out, errors = shell.run(faults, argv)
    assert (status, out) == (2, "")
    assert said in errors
    assert len(errors.splitlines()) <= 2
    assert not (shell.folder / "state").exists()


def test_a_file_that_is_no_program_is_said_after_all_is_put_back(shell: Exec, tmp_path: Path) -> None:
    need(NOTIFY)
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    status, out, errors = shell.run([YIELDS], [str(script)])
    assert (status, out) == (2, "")
    assert "cannot be started: No such file or directory" in errors


def test_notify_is_for_what_chaosd_starts(shell: Exec) -> None:
    with caller() as other:
        words = ["inject", *YIELDS.split(), "--target", f"pid:{other.pid}", "--duration", "1s"]
        argv = [sys.executable, "-m", "chaosd", *words]
        done = subprocess.run(argv, env=shell.env, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "only of a program that it starts itself (chaosd exec)" in done.stderr


LIVES = """
print(*tries(5), flush=True)
for line in sys.stdin:
    began = time.monotonic()
    print(*tries(5), round(time.monotonic() - began, 3), flush=True)
"""


class Alive:
    """A command that goes on until its input ends; its first five calls have failed."""

    def __init__(self, shell: Exec, fault: str = YIELDS, *options: str) -> None:
        need(NOTIFY)
        self.shell = shell
        self.engine = shell.start([fault], [sys.executable, "-c", TRIES + LIVES], *options)
        assert self.engine.stdout is not None
        self.first = self.engine.stdout.readline().split()
        assert self.first, self.end()
        self.pids = descendants(self.engine.pid)

    def named(self, name: str) -> int:
        (found,) = [pid for pid in self.pids if name_of(pid) == name]
        return found

    def tries(self) -> list[str]:
        assert self.engine.stdin is not None
        assert self.engine.stdout is not None
        self.engine.stdin.write("\n")
        self.engine.stdin.flush()
        return self.engine.stdout.readline().split()[:-1]

    def end(self) -> tuple[int, str]:
        _, errors = self.engine.communicate(timeout=30)
        return self.engine.returncode, errors


WHO = [
    "engine",
    "watchdog",
    "supervisor",
    "keeper",
    "engine+watchdog",
    "supervisor, then its keeper",
    "passes",
]


@pytest.mark.parametrize("who", WHO)
def test_whoever_is_killed_calls_go_on(shell: Exec, who: str) -> None:
    """The end of any of them lifts the fault at once, and no call gets ENOSYS."""
    alive = Alive(shell)
    assert alive.first == [_exfull()] * 5
    victims = {"engine": [alive.engine.pid], "watchdog": [alive.named("chaosd-watchdog")]}
    victims["engine+watchdog"] = victims["watchdog"] + victims["engine"]
    victims["supervisor"] = victims["supervisor, then its keeper"] = [alive.named("chaosd-notify")]
    victims["keeper"] = [alive.named("chaosd-keeper")]
    victims["passes"] = victims["engine"]
    for victim in victims[who]:
        os.kill(victim, signal.SIGKILL)
    if who == "keeper":
        until(lambda: shell.ours("chaosd-keeper") - {victims[who][0]}, "there is no new keeper")
        assert alive.tries() == [_exfull()] * 5, "the supervisor goes on"
    else:
        until(lambda: alive.tries() == ["0"] * 5, "the fault outlived them")
        assert alive.tries() == ["0"] * 5
    if who in ("supervisor, then its keeper", "passes"):
        for _ in range(3):
            until(lambda: len(shell.ours("chaosd-passes")) == 1 and shell.ours("chaosd-keeper"), "nobody")
            os.kill(shell.ours("chaosd-passes").pop(), signal.SIGKILL)
            assert alive.tries() == ["0"] * 5
    if who == "engine+watchdog":
        shell.revert()
        assert alive.tries() == ["0"] * 5
    assert alive.engine.stdin is not None
    alive.engine.stdin.close()
    assert alive.engine.stdout is not None
    alive.engine.stdout.read()
    alive.engine.wait(timeout=30)
    until(lambda: shell.journal() is None, "the journal is left")


def test_a_call_that_is_held_is_let_go_when_its_supervisor_is_killed(shell: Exec) -> None:
    need(NOTIFY)
    process = shell.start([HELD], [sys.executable, "-c", TRIES + "print('up', flush=True); print(tries(3))"])
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.3)
    assert not select.select([process.stdout], [], [], 0)[0]
    (supervisor,) = [pid for pid in descendants(process.pid) if name_of(pid) == "chaosd-notify"]
    began = time.monotonic()
    os.kill(supervisor, signal.SIGKILL)
    assert process.stdout.readline() == "[0, 0, 0]\n"
    assert time.monotonic() - began < 1
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_an_engine_that_is_stopped_holds_nothing_up(shell: Exec) -> None:
    """The lease is over after two seconds, and the held call goes on; the watchdog puts back the rest."""
    need(NOTIFY)
    process = shell.start([HELD], [sys.executable, "-c", TRIES + "print('up', flush=True); print(tries(3))"])
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.3)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGSTOP)
    assert process.stdout.readline() == "[0, 0, 0]\n"
    assert 1 < time.monotonic() - began < 3
    process.communicate(timeout=30)
    until(lambda: shell.journal() is None, "the watchdog did not put back")


def test_a_supervisor_that_is_stopped_ends_the_run(shell: Exec) -> None:
    alive = Alive(shell)
    os.kill(alive.named("chaosd-notify"), signal.SIGSTOP)
    assert alive.tries()[1:] == ["0"] * 4, "the first may reach it just before the signal does"
    status, errors = alive.end()
    assert status == 0
    assert "aborted" in errors
    assert "was stopped by somebody" in errors


def test_with_supervisor_and_keeper_dead_the_chosen_calls_alone_get_enosys(shell: Exec) -> None:
    """Nobody is left to answer, nor ever will be; the command takes it as it likes, and the run ends."""
    alive = Alive(shell)
    supervisor = alive.named("chaosd-notify")
    os.kill(supervisor, signal.SIGSTOP)  # or it would make another keeper
    os.kill(alive.named("chaosd-keeper"), signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: alive.tries() == [str(errno.ENOSYS)] * 5, "there is still somebody")
    until(lambda: shell.journal() is None, "the run goes on")
    status, errors = alive.end()
    assert status == 0
    assert "aborted" in errors
    assert "its supervisor ended by itself" in errors


def test_the_command_goes_on_when_the_duration_is_over(shell: Exec) -> None:
    alive = Alive(shell, YIELDS, "--duration", DURATION)
    assert alive.first == [_exfull()] * 5
    until(lambda: alive.tries() == ["0"] * 5, "the fault outlived its duration", 30)
    assert alive.engine.poll() is None
    until(lambda: shell.journal() is None, "the journal is left")
    assert len(shell.ours("chaosd-passes")) == len(shell.ours("chaosd-keeper")) == 1
    status, errors = alive.end()
    assert status == 0
    assert "passed" in errors


def test_sigterm_is_passed_on_after_the_fault_is_lifted(shell: Exec) -> None:
    alive = Alive(shell)
    alive.engine.terminate()
    status = alive.engine.wait(timeout=30)
    _, errors = alive.end()
    assert status == 128 + signal.SIGTERM
    assert "interrupted: by SIGTERM" in errors
    assert "host restored" in errors


def test_a_command_that_ignores_sigterm_goes_on_without_us(shell: Exec) -> None:
    need(NOTIFY)
    code = """
import signal
signal.signal(15, signal.SIG_IGN)
print("up", flush=True)
time.sleep(8)
print(tries(1))
"""
    process = shell.start([YIELDS], [sys.executable, "-c", TRIES + code])
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.wait(timeout=30) == 6
    assert process.stdout.readline() == "[0]\n"
    _, errors = process.communicate(timeout=30)
    assert "goes on without faults" in errors


class Terminal:
    """A session of its own with a terminal."""

    def __init__(self, shell: Exec, faults: list[str], argv: list[str], under: Sequence[str] = ()) -> None:
        self._main, side = pty.openpty()
        self.process = shell.start(
            faults, argv, under=under, stdin=side, stdout=side, stderr=side, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0),  # TIOCSCTTY
        )  # fmt: skip
        os.close(side)
        self.said = ""

    def expect(self, pattern: str) -> None:
        stop = time.monotonic() + 30
        while not re.search(pattern, self.said):
            assert time.monotonic() < stop, self.said
            if select.select([self._main], [], [], 0.1)[0]:
                self.said += os.read(self._main, 4096).decode()

    def type(self, key: str) -> None:
        os.write(self._main, key.encode())

    def close(self) -> None:
        os.close(self._main)


def test_ctrl_c_reaches_the_command_and_lifts_the_fault(shell: Exec) -> None:
    """A command that goes on after it is waited for, without faults; the second one ends it."""
    need(NOTIFY)
    code = """
try:
    print("up", tries(1), flush=True)
    while True:
        time.sleep(0.05)  # a signal just before a sleep is heard after it
except KeyboardInterrupt:
    time.sleep(1)
    print("caught", tries(1), flush=True)
while True:
    time.sleep(0.05)
"""
    terminal = Terminal(shell, [YIELDS], [sys.executable, "-c", TRIES + code])
    terminal.expect(rf"up \[{_exfull()}\]")
    terminal.type("\x03")
    terminal.expect(r"interrupted\S*: by SIGINT")
    terminal.expect(r"host restored")
    terminal.expect(r"caught \[0\]")
    terminal.type("\x03")
    assert terminal.process.wait(timeout=30) == 128 + signal.SIGINT
    terminal.close()


SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen(sys.argv[1:], process_group=0, preexec_fn=lambda: os.tcsetpgrp(0, os.getpgrp()))
_, status = os.waitpid(job.pid, os.WUNTRACED)
print("stopped", os.WIFSTOPPED(status), flush=True)
os.killpg(job.pid, signal.SIGCONT)
print("ended", os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1]), flush=True)
"""


def test_ctrl_z_lifts_the_fault_and_stops_both(shell: Exec) -> None:
    """As a job of a shell, which gets the terminal back, and lets both go on."""
    need(NOTIFY)
    code = "print('up', tries(1), flush=True); time.sleep(1); print('on', tries(1), flush=True)"
    terminal = Terminal(shell, [YIELDS], [sys.executable, "-c", TRIES + code], [sys.executable, "-c", SHELL])
    terminal.expect(rf"up \[{_exfull()}\]")
    terminal.type("\x1a")
    terminal.expect(r"host restored")
    terminal.expect(r"stopped True")
    terminal.expect(r"on \[0\]")
    terminal.expect(r"ended 0")
    assert terminal.process.wait(timeout=30) == 0
    terminal.close()


# Programs of other people.


def test_dd_that_cannot_write(shell: Exec, tmp_path: Path) -> None:
    need(NOTIFY)
    out = tmp_path / "out"
    fault = f"syscall.error mechanism=notify syscalls=[write] errno=ENOSPC path={out} after=10"
    argv = ["dd", "if=/dev/zero", f"of={out}", "bs=4096", "count=101"]
    status, _, errors = shell.run([fault], argv)
    assert status == 1
    assert "No space left on device" in errors
    assert out.stat().st_size == 10 * 4096


def test_dd_whose_flushes_are_slow(shell: Exec, tmp_path: Path) -> None:
    need(NOTIFY)
    argv = ["dd", "if=/dev/zero", f"of={tmp_path / 'out'}", "bs=4096", "count=7", "conv=fsync"]
    began = time.monotonic()
    status, _, errors = shell.run(["syscall.delay mechanism=notify syscalls=[fsync] delay=700ms"], argv)
    assert status == 0
    assert time.monotonic() - began > 0.7
    assert "1 calls" in errors


def test_a_shell_and_what_it_starts(shell: Exec, tmp_path: Path) -> None:
    need(NOTIFY)
    (tmp_path / "a").write_text("x")
    fault = f"syscall.error mechanism=notify syscalls=[files.open] errno=EACCES path={tmp_path}/a"
    status, out, errors = shell.run([fault], ["sh", "-c", f"cat {tmp_path}/a || echo failed $?; echo done"])
    assert (status, out) == (0, "failed 1\ndone\n")
    assert "Permission denied" in errors


@pytest.fixture
def server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield int(found.server_address[1])
        found.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl_that_cannot_connect(shell: Exec, server: int) -> None:
    need(NOTIFY)
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{server}/"]
    fault = f"syscall.error mechanism=notify syscalls=[connect] errno=ENETUNREACH ports=[{server}]"
    status, out, errors = shell.run([fault], argv)
    assert (status, out) == (7, "000")
    assert (
        "Failed to connect" in errors or "Could not connect" in errors or "Network is unreachable" in errors
    )
    assert shell.run([fault.replace(str(server), "9")], argv)[:2] == (0, "200")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_a_fault_of_the_network_on_curl(shell: Exec, server: int) -> None:
    """Any fault will do; the target is the command."""
    need(GATE)
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}", f"http://127.0.0.1:{server}/"]
    status, out, errors = shell.run([f"network.delay delay=150ms ports=[{server}]"], argv, "--json")
    assert status == 0, errors
    assert float(out) >= 0.29, "a new connection's first answer: two round trips"
    view = json.loads(errors)
    assert view["evidence"][0]["injected"] >= 3
    assert (view["verdict"], view["restored"]["differs"]) == ("passed", [])


def test_a_process_of_the_ptrace_mechanism(shell: Exec) -> None:
    need(PTRACE)
    fault = "syscall.error mechanism=ptrace syscalls=[sched_yield] errno=EXFULL budget=23"
    status, out, view = shell.python(fault, "print(tries(101).count(errno.EXFULL))")
    assert (status, out) == (0, "23\n")
    assert view["evidence"][0]["matched"] == 101
