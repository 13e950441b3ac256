"""Whole runs by the command line: every way a run can end, on real processes and traffic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import world
from world import need, python, until

from chaosd.kernel import netns
from chaosd.kernel.capability_network import CONNECT, GATE
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.process import descendants

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import socket, threading
s = socket.create_server(("0.0.0.0", 8000), backlog=128)
print("up", flush=True)
while True:
    c, _ = s.accept()
    try:
        c.recv(4096)
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    except OSError:
        pass
    c.close()
"""


class Shell:
    """The chaosd command with folders of its own, in a world with one small server."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.ns = stack.enter_context(world.netns())
        server = stack.enter_context(world.spawn(python(SERVER), ns=self.ns))
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        self.server = server.pid
        self.folder = folder
        self.env = os.environ | {
            "CHAOSD_RUN_DIR": str(folder / "run"),
            "CHAOSD_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "chaosd", *words]
        return subprocess.Popen(
            argv, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        out, errors = process.communicate(timeout=110)
        assert "Traceback" not in errors, errors
        return process.returncode, out + errors

    def live(self) -> list[Path]:
        return list((self.folder / "run").glob("*.jsonl"))

    def wait_phase(self, name: str) -> Path:
        said = f'"phase":"{name}"'
        until(lambda: self.live() and said in self.live()[0].read_text("utf-8"), f"no {name}", 60)
        return self.live()[0]

    def scenario(self, text: str) -> str:
        place = self.folder / "scenario.yaml"
        place.write_text(text.format(pid=self.server, ns=self.ns.path, folder=self.folder), "utf-8")
        return str(place)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(stack, tmp_path)
        run = tmp_path / "run"
        assert not run.exists() or not list(run.iterdir()), "a run that is over leaves no file"


STEADY = """
name: test
duration: {{duration}}
target: pid:{{pid}}
steady_state:
  - http: {{{{name: server, url: "http://127.0.0.1:8000/", netns: "{{ns}}", within: 2s, rate: 10}}}}
faults:
  - {fault}
{more}
"""


def _steady(fault: str, more: str = "", duration: str = "2s") -> str:
    return STEADY.format(fault=fault, more=more).replace("{duration}", duration)


def test_a_run_that_hits_and_recovers_passes(shell: Shell) -> None:
    need(GATE)
    path = shell.scenario(_steady("network.delay: {{delay: 100ms}}"))
    status, out = shell.run("run", path, "--json")
    view = json.loads(out)
    assert status == 0, view["reason"]
    assert view["verdict"] == "passed"
    during, before = (view["stats"][when]["server"]["p50"] for when in ("during", "before"))
    assert during - before == pytest.approx(0.2, rel=0.3), "a new connection's first answer: two round trips"
    assert view["evidence"][0]["injected"] > 10
    assert view["restored"]["differs"] == []
    assert view["restored"]["compared"] > 3
    assert view["recovered_after"] is not None
    assert not any(edit["open"] for edit in view["edits"].values())
    assert not shell.live()


def test_a_fault_that_hits_nothing_is_inconclusive(shell: Shell) -> None:
    need(GATE)
    words = ("network.loss", "ports=[9]", "--target", f"pid:{shell.server}", "--duration", "300ms")
    status, out = shell.run("inject", *words)
    assert status == 4, out
    assert "hit nothing" in out
    assert "host restored" in out


def test_a_steady_state_that_does_not_hold_refuses_and_touches_nothing(shell: Shell) -> None:
    path = shell.scenario(_steady("process.pause: {{}}").replace(":8000", ":8001"))
    status, out = shell.run("run", path, "--json")
    view = json.loads(out)
    assert status == 2
    assert "steady state does not hold" in view["reason"]
    assert view["edits"] == {}


def test_a_threshold_aborts_at_once_and_restores(shell: Shell) -> None:
    need(CONNECT)
    path = shell.scenario(
        _steady("process.pause: {{}}", duration="60s").replace("within: 2s", "within: 300ms")
    )
    began = time.monotonic()
    status, out = shell.run("run", path, "--json")
    view = json.loads(out)
    assert status == 3, view
    assert "error_rate > 50%" in view["reason"] or "availability < 50%" in view["reason"]
    assert time.monotonic() - began < 30
    assert view["recovered_after"] is not None, "recovery is measured after an abort, too"
    assert not shell.live()


def test_a_target_that_dies_ends_the_run_as_lost(shell: Shell) -> None:
    process = shell.start(
        "inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "60s", "--json"
    )
    shell.wait_phase("fault")
    os.kill(shell.server, signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    view = json.loads(out)
    assert process.returncode == 1
    assert view["verdict"] == "target-lost"
    assert not shell.live()


def test_no_recovery_in_time_fails_the_run(shell: Shell) -> None:
    path = shell.scenario(
        _steady(
            "process.kill: {{}}", "recover_within: 1s\nabort_when: [error_rate > 100%, availability < 0%]"
        )
    )
    status, out = shell.run("run", path, "--json")
    assert status == 1, out
    view = json.loads(out)
    assert view["verdict"] in ("failed", "target-lost")


def test_ctrl_c_interrupts_and_restores(shell: Shell) -> None:
    process = shell.start("inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "60s")
    shell.wait_phase("fault")
    assert _state(shell.server) == "T" or _frozen(shell.server)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 6, out + errors
    assert "host restored" in out
    assert _answers(shell.ns)


def test_status_stop_and_revert_tell_and_end_a_live_run(shell: Shell) -> None:
    assert shell.run("status")[1].startswith("no run is live")
    assert "no run is live" in shell.run("stop")[1]
    assert "nothing to put back" in shell.run("revert", "--all")[1]
    process = shell.start("inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "60s")
    run = shell.wait_phase("fault").stem
    status, out = shell.run("status", "--json")
    assert status == 0
    told = json.loads(out)[0]
    assert (told["run"], told["alive"], told["phase"]) == (run, True, "fault")
    assert told["open_edits"]
    assert run in shell.run("status")[1]
    status, out = shell.run("inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "1s")
    assert status == 2
    assert f"another run holds this host: {run} (process.pause, pid {process.pid})" in out
    assert "no live run" in shell.run("stop", "ffffff")[1]
    status, out = shell.run("stop", run)
    assert (status, "host restored" in out) == (0, True)
    assert process.wait(timeout=10) == 6
    assert _answers(shell.ns)


def test_revert_ends_a_run_whose_engine_does_not_answer(shell: Shell) -> None:
    process = shell.start("inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "60s")
    shell.wait_phase("fault")
    os.kill(process.pid, signal.SIGSTOP)
    status, out = shell.run("revert", "--all")
    assert status == 0, out
    assert not shell.live()
    process.wait(timeout=20)
    assert _answers(shell.ns)


_LATE = """
import sys, time
from chaosd import watchdog
from chaosd.kernel.{module} import {kind}
def late(deed):
    def does(*arguments):
        time.sleep(2)
        return deed(*arguments)
    return does
watchdog.GRACE = 1.0
{kind}.apply, {kind}.revert = late({kind}.apply), late({kind}.revert)
from chaosd.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("module", "kind", "verdict"), [("cgroup_group", "Move", "passed"), ("pause", "Pause", "killed")]
)
def test_a_slow_kernel_is_waited_for_and_a_hung_engine_is_killed(
    shell: Shell, module: str, kind: str, verdict: str
) -> None:
    words = ["inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "3s"]
    argv = [sys.executable, "-c", _LATE.format(module=module, kind=kind), *words]
    done = subprocess.run(argv, env=shell.env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == (0 if verdict == "passed" else -signal.SIGKILL), done.stderr
    until(lambda: not shell.live(), "the watchdog does not put it back", 30)
    (journal,) = (shell.folder / "state" / "runs").iterdir()
    end = json.loads(journal.read_text("utf-8").splitlines()[-1])
    assert (end["type"], end["verdict"]) == ("end", verdict), end
    assert ("no pulse for" in end["reason"]) == (verdict == "killed")
    assert _answers(shell.ns)


def test_with_engine_and_watchdog_dead_the_lease_ends_the_fault(shell: Shell) -> None:
    need(GATE)
    process = shell.start(
        "inject", "network.partition", "--target", f"pid:{shell.server}", "--duration", "60s"
    )
    path = shell.wait_phase("fault")
    assert not _answers(shell.ns, 1)
    watchdogs = [pid for pid in _children(process.pid) if _comm(pid) == "chaosd-watchdog"]
    assert len(watchdogs) == 1
    os.kill(watchdogs[0], signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2.5)  # the lease is 2 s
    assert path.exists(), "nobody is left to put anything back"
    assert _answers(shell.ns), "the fault outlived its lease"
    assert shell.run("revert", "--all")[0] == 0
    assert not shell.live()


def test_a_value_that_somebody_else_wrote_meanwhile_is_left_alone(shell: Shell, tmp_path: Path) -> None:
    with world.cgroup() as group, world.spawn(python("import time; time.sleep(60)"), cg=group):
        freeze = Path(group.path, "cgroup.freeze")
        process = shell.start(
            "inject", "process.pause", "--target", f"cgroup:{group.path}", "--duration", "60s", "--json"
        )
        shell.wait_phase("fault")
        assert freeze.read_text("ascii") == "1\n"
        freeze.write_text("0", "ascii")
        out, _ = process.communicate(timeout=60)
        view = json.loads(out)
        assert view["verdict"] == "aborted"
        assert not shell.live()
        assert freeze.read_text("ascii") == "0\n"


def test_what_somebody_else_added_after_the_plan_ends_the_run_and_stays(shell: Shell) -> None:
    need(GATE)
    process = shell.start("run", shell.scenario(_steady("network.delay: {{delay: 100ms}}")), "--json")
    shell.wait_phase("baseline")
    with netns.inside(shell.ns):
        subprocess.run(["tc", "qdisc", "add", "dev", "lo", "clsact"], check=True, timeout=20)
    out, _ = process.communicate(timeout=60)
    view = json.loads(out)
    assert "has got a clsact qdisc meanwhile" in view["reason"]
    assert (view["verdict"], process.returncode) == ("refused", 2)
    with netns.inside(shell.ns):
        shown = subprocess.check_output(["tc", "qdisc", "show", "dev", "lo"], text=True, timeout=20)
    assert "qdisc clsact" in shown
    assert view["restored"]["differs"] == []
    assert not shell.live()


BAD = (
    (("run", "nothing-like-this"), "unknown scenario"),
    (("run", "network-latency"), "has no target"),
    (("run", "network-latency", "--target", "pod:x"), "is not a target"),
    (("run", "network-latency", "--target", "pid:999999999"), "pid"),
    (("run", "network-latency", "--target", "container:no-such-thing"), "container"),
    (("run", "network-latency", "--set", "dleay=1s", "--target", "pid:{pid}"), "did you mean delay?"),
    (("run", "network-latency", "--duration", "31m", "--target", "pid:{pid}"), "at most 30m"),
    (("run", "network-latency", "--duration", "-1s", "--target", "pid:{pid}"), "not a duration"),
    (("inject", "network.dleay", "--target", "pid:{pid}", "--duration", "1s"), "did you mean network.delay?"),
    (("inject", "network.loss", "percent=101%", "--target", "pid:{pid}", "--duration", "1s"), "over 100%"),
    (("inject", "network.delay", "delay=1", "--target", "pid:{pid}", "--duration", "1s"), "has no unit"),
    (("inject", "process.pause", "--target", "pid:1", "--duration", "1s"), "protected"),
    (("inject", "process.pause", "--target", "host", "--duration", "1s"), ""),
    (("scenarios", "validate", "/etc/passwd"), "/etc/passwd: not a scenario"),
    (("inject", "process.pause"), "--target is missing"),
    (("stpo",), "did you mean stop?"),
)


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_refused_in_words_and_nothing_is_changed(
    shell: Shell, words: tuple[str, ...], says: str
) -> None:
    status, out = shell.run(*(word.format(pid=shell.server) for word in words))
    expected = (2, 5) if words[2:4] == ("--target", "container:no-such-thing") else (2,)
    assert status in expected, out
    assert says in out
    assert not shell.live()
    assert not (shell.folder / "state").exists(), "no run was begun"


def test_who_is_not_root_is_told_so(shell: Shell) -> None:
    # may read everything, so that the interpreter and its libraries load wherever they are
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    nobody += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    inject = ["inject", "process.pause", "--target", f"pid:{shell.server}", "--duration", "1s"]
    for words in (["doctor"], ["status"], ["stop"], ["revert", "--all"], inject):
        argv = [*nobody, sys.executable, "-m", "chaosd", *words]
        done = subprocess.run(argv, env=shell.env, capture_output=True, text=True, check=False)
        assert (done.returncode, "sudo chaosd" in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]


def _frozen(pid: int) -> bool:
    return "chaosd" in Path(f"/proc/{pid}/cgroup").read_text("utf-8")


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()


def _children(pid: int) -> list[int]:
    return descendants(pid)


def _answers(ns: NetnsRef, seconds: float = 5) -> bool:
    code = f"""
import socket
s = socket.create_connection(("127.0.0.1", 8000), {seconds})
s.settimeout({seconds}); s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n"); assert s.recv(100)
"""
    with world.spawn(python(code), ns=ns) as process:
        return process.wait(timeout=60) == 0
