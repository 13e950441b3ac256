"""clock.skew: which time a program is told while it is under the fault, and after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import ROOT, Exec, commands
from world import need, until

from chaosd.errors import ChaosdError
from chaosd.faults.clock_skew import ClockSkew, Offset, Pace
from chaosd.kernel import clock
from chaosd.kernel.leftovers import ours

# Prints, at once and for each line of its input: how far the wall clock is ahead of the host's by each way
# to ask, and the time that passed by a clock that only measures
CLOCKS = """
import ctypes, os, struct, subprocess, sys, time
libc = ctypes.CDLL(None)
def real():
    # no library is asked: 228 is clock_gettime, 201 is time (x86-64); 113 and none on arm64
    room = ctypes.create_string_buffer(16)
    libc.syscall(228 if os.uname().machine == "x86_64" else 113, 0, room)
    seconds, rest = struct.unpack("=qq", room.raw)
    return seconds + rest / 1e9
def timeofday():
    room = ctypes.create_string_buffer(16)
    libc.gettimeofday(room, None)
    seconds, rest = struct.unpack("=qq", room.raw)
    return seconds + rest / 1e6
def ahead():
    date = float(subprocess.run(["date", "+%s.%N"], capture_output=True).stdout)
    asked = [date, time.time(), timeofday(), libc.time(None), time.clock_gettime(5)]
    return [round(said - real(), 1) for said in asked]
print(ahead(), flush=True)
for line in sys.stdin:
    print(ahead(), flush=True)
"""
WAITS = """
import ctypes, struct, time
libc = ctypes.CDLL(None)
room = ctypes.create_string_buffer
def packed(at):
    return struct.pack("=qq", int(at), int(at % 1 * 1e9))
def took(call, asked=time.time):
    began = time.monotonic()
    call(packed(asked() + 0.5))
    return round(time.monotonic() - began, 2)
condition, mutex, locked, semaphore, rwlock = room(48), room(40), room(40), room(32), room(56)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(locked)
libc.pthread_rwlock_wrlock(rwlock)
print(
    took(lambda at: libc.pthread_cond_timedwait(condition, mutex, at)),
    took(lambda at: libc.pthread_cond_clockwait(condition, mutex, 0, at)),
    took(lambda at: libc.pthread_mutex_timedlock(locked, at)),
    took(lambda at: libc.sem_timedwait(semaphore, at)),
    took(lambda at: libc.sem_clockwait(semaphore, 0, at)),
    took(lambda at: libc.clock_nanosleep(0, 1, at, None)),
)
attribute = room(4)
libc.pthread_condattr_init(attribute)
libc.pthread_condattr_setclock(attribute, 1)
libc.pthread_cond_init(condition, attribute)
print(took(lambda at: libc.pthread_cond_timedwait(condition, mutex, at), time.monotonic))
"""
GO_NOTE = """
.section .note.go.buildid, "a", @note
.long 4, 4, 4
.ascii "Go\\0\\0id00"
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Exec]:
    need(clock.LIBRARY_LOADS)
    with commands(tmp_path) as made:
        yield made


class Clocks:
    """A program that tells how far its clock is ahead whenever it is asked."""

    def __init__(self, shell: Exec, fault: str, *options: str) -> None:
        self.engine = shell.start([fault], [sys.executable, "-c", CLOCKS], *options)
        self.first = self._read()

    def _read(self) -> list[float]:
        assert self.engine.stdout
        found: list[float] = json.loads(self.engine.stdout.readline())
        return found

    def ahead(self) -> list[float]:
        assert self.engine.stdin
        self.engine.stdin.write("\n")
        self.engine.stdin.flush()
        return self._read()

    def right(self) -> bool:
        return max(map(abs, self.ahead())) < 2

    def end(self) -> dict[str, object]:
        _, errors = self.engine.communicate(timeout=30)
        told: dict[str, object] = json.loads(errors)
        return told


@pytest.mark.parametrize(("offset", "ahead"), [("-1h", -3600), ("+90s", 90)])
def test_every_way_to_ask_is_wrong_by_the_offset_and_then_right(
    shell: Exec, offset: str, ahead: float
) -> None:
    """In the program and in what it starts, until the run is over."""
    clocks = Clocks(shell, f"clock.skew offset={offset}", "--duration", "4s", "--json")
    assert clocks.first == pytest.approx([ahead] * 5, abs=1.5)
    assert clocks.ahead() == pytest.approx([ahead] * 5, abs=1.5)
    until(clocks.right, "the clock stays wrong")
    until(lambda: not list(shell.folder.glob("run-*")), "its page stays")
    told = clocks.end()
    assert told["verdict"] == "passed"
    (evidence,) = told["evidence"]  # type: ignore[attr-defined, misc]
    assert evidence["unit"] == "clock readings"
    assert evidence["injected"] >= 10


def test_a_date_to_begin_at_and_a_clock_that_goes_too_fast(shell: Exec) -> None:
    """From that moment on, five seconds pass in each one."""
    code = "import time; a = time.time(); time.sleep(1); print(a, time.time() - a)"
    fault = "clock.skew offset=2038-01-19T03:14:07Z drift=5x"
    _, out, _ = shell.run([fault], [sys.executable, "-c", code])
    began, passed = map(float, out.split())
    assert 2**31 - 1 <= began < 2**31 + 600
    assert passed == pytest.approx(5, abs=1)


@pytest.mark.parametrize("offset", ["-1h", "+1h"])
def test_waits_until_a_time_by_the_wrong_clock_take_as_long_as_they_should(shell: Exec, offset: str) -> None:
    """A host with that clock would wake them then; a clock that only measures is left alone."""
    status, out, _ = shell.run([f"clock.skew offset={offset}"], [sys.executable, "-c", WAITS])
    assert status == 0
    took = [float(word) for word in out.split()]
    assert len(took) == 7
    assert all(0.45 <= seconds < 1.5 for seconds in took), took


@pytest.mark.parametrize("who", ["engine", "engine and watchdog"])
def test_whoever_is_killed_the_clock_is_right_again(shell: Exec, who: str) -> None:
    """The watchdog ends it at once; without one it ends with its lease."""
    clocks = Clocks(shell, "clock.skew offset=-1h")
    assert clocks.first == pytest.approx([-3600] * 5, abs=1.5)
    (watchdog,) = shell.ours("chaosd-watchdog")
    for pid in (watchdog, clocks.engine.pid)[who == "engine" :]:
        os.kill(pid, signal.SIGKILL)
    until(clocks.right, "the clock stays wrong")
    if who != "engine":
        shell.revert()
    until(lambda: not list(shell.folder.glob("run-*")), "its page stays")
    clocks.engine.communicate(timeout=30)


def test_a_program_that_asks_for_no_time_is_inconclusive(shell: Exec) -> None:
    """No reading, no verdict."""
    _, _, errors = shell.run(["clock.skew offset=-1h"], ["sh", "-c", "true"], "--json")
    assert json.loads(errors)["verdict"] == "inconclusive"


def test_another_preloaded_library_is_kept(shell: Exec) -> None:
    """Ours goes in front of it."""
    shell.env["LD_PRELOAD"] = "libm.so.6"
    _, out, _ = shell.run(["clock.skew offset=-1h"], ["sh", "-c", "echo $LD_PRELOAD"])
    assert out == f"{clock.LIBRARY}:libm.so.6\n"


def test_another_users_program_has_the_clock_too(shell: Exec) -> None:
    """The page can be read by all, and written by root alone."""
    for folder in (shell.folder, *shell.folder.parents):
        if folder.name.startswith(("pytest-", "popen-", "test_")):  # as pytest and its workers make them
            folder.chmod(0o755)
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "date", "+%s"]
    _, out, _ = shell.run(["clock.skew offset=-1h"], argv)
    assert float(out) - time.time() == pytest.approx(-3600, abs=30)


def test_a_scenario_for_a_command(shell: Exec) -> None:
    """Its parameters are set as for any other."""
    options = ("--scenario", "clock-skew", "--set", "offset=+2h", "--duration", "5s")
    _, out, errors = shell.run([], ["date", "+%s"], *options)
    assert float(out) - time.time() == pytest.approx(7200, abs=30)
    assert "passed" in errors
    status, _, errors = shell.run(["clock.skew offset=-1h"], ["date"], *options)
    assert (status, errors.count("\n")) == (2, 2)
    assert "give either --fault" in errors


def test_what_cannot_be_done_is_said_before_anything_begins(shell: Exec, tmp_path: Path) -> None:
    """Static programs, and those of others than chaosd's own."""
    busybox = shutil.which("busybox")
    assert busybox, "tests/setup.sh installs it"
    status, out, errors = shell.run(["clock.skew offset=-1h"], [busybox, "date"])
    assert (status, out) == (2, "")
    assert "busybox is linked statically" in errors
    script = tmp_path / "script"
    script.write_text(f"#!{busybox} sh\ndate\n", "ascii")
    script.chmod(0o755)
    assert "linked statically" in shell.run(["clock.skew offset=-1h"], [str(script)])[2]
    other = tmp_path / "date"
    shutil.copy("/bin/date", other)
    os.chown(other, 65534, 65534)
    other.chmod(0o4755)
    assert "takes another user" in shell.run(["clock.skew offset=-1h"], [str(other)])[2]
    other.write_bytes(b"\x7fELF\x01" + Path("/bin/date").read_bytes()[5:])
    assert clock.cannot(str(other))
    words = [sys.executable, "-m", "chaosd", "run", "clock-skew", "--target", f"pid:{os.getppid()}"]
    done = subprocess.run(words, env=shell.env, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "is only for programs that chaosd starts" in done.stderr or "is protected" in done.stderr


def test_a_program_of_go_is_told_by_its_note(tmp_path: Path) -> None:
    """Also among other notes, where another linker has put it."""
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    (tmp_path / "note.s").write_text(GO_NOTE)
    for name, parts in (("plain", ["main.c"]), ("go", ["main.c", "note.s"])):
        argv = ["clang", "-Wl,--build-id", "-o", name, *parts]
        subprocess.run(argv, check=True, cwd=tmp_path)
    assert clock.cannot(str(tmp_path / "plain")) == ""
    assert "made by Go" in clock.cannot(str(tmp_path / "go"))


def test_a_page_with_no_journal_is_found_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its name."""
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    page = Path(clock.page_of("abcdef", 3))
    page.write_bytes(b"\xff" * 4096)
    (found,) = [item for item in ours() if str(page) in str(item)]
    found.remove()
    assert not page.exists()


def test_offsets_and_paces_as_users_write_them() -> None:
    """Signed durations, dates, and what is neither."""
    assert [Offset.parse(text) for text in ("-1h", "+90s", "5m")] == [-3600, 90, 300]
    assert [str(Offset.parse(text)) for text in ("-1h", "+90s", "0s")] == ["-1h", "+1.5m", "0s"]
    assert Offset.parse("1970-01-02T00:00:00Z").ahead() == pytest.approx(86400 - time.time(), abs=5)
    assert Pace.parse("1.1x") == Pace.parse(1.1) == 1.1
    for text in ("tomorrow", "1", "--5s", "2038-13-01"):
        with pytest.raises(ChaosdError, match="neither a signed duration nor a date"):
            Offset.parse(text)
    for text in ("fast", "0x", "-1x", "nan"):
        with pytest.raises(ChaosdError, match="is no pace"):
            Pace.parse(text)
    assert ClockSkew().check() == ["give an offset or a drift, such as offset: -1h"]
    assert not ClockSkew(drift=Pace(1.1)).check()
