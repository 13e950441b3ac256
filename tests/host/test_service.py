"""The package, its units, and what puts a run back when what dies, under a real systemd as pid 1."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from booted import BOOTED, Booted, booted
from world import need, until

from chaosd import timer

ROOT = Path(__file__).parents[2]
UNITS = ("chaosd.service", "chaosd.socket", "chaosd-recover.service")
LOG = "/var/lib/chaosd/runs"
TRANSIENT = "/run/systemd/transient"
EXPOSURE = 6.5
"""What ``systemd-analyze security`` may say at most: 6.4 of 10; the file of the unit gives the reasons."""
# With its cgroup out of reach, a watchdog stays in that of the daemon, as it is before the fault is live.
NO_CGROUP = "[Service]\nReadOnlyPaths=/sys/fs/cgroup\n"
_serial = count()
pytestmark = pytest.mark.timeout(400)  # the first one waits for the package to be built


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Debian package, and in root/ the files that it is made of."""
    need(BOOTED)
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(["tools/install.sh", "deb", str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def bare(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A booted Debian that can reach the package, and has nothing of chaosd."""
    binds = ((package, "/srv/package"), (ROOT / "tools", "/srv/tree/tools"))
    with booted(tmp_path_factory.mktemp("booted"), *binds) as host:
        yield host


@pytest.fixture
def host(bare: Booted) -> Booted:
    """One with chaosd installed from its package, its daemon up, and nothing of a test before."""
    bare.ask("sh", "-c", "dpkg-query -W chaosd >/dev/null 2>&1 || dpkg -i /srv/package/*.deb")
    drop_ins(bare)
    bare.ask("systemctl", "restart", "chaosd.socket", "chaosd.service")
    return bare


def drop_ins(host: Booted, **texts: str) -> None:
    """Give units a drop-in each, ``socket`` or ``service``, and take away those of before."""
    host.ask("rm", "-rf", *(f"/run/systemd/system/chaosd.{kind}.d" for kind in ("service", "socket")))
    for kind, text in texts.items():
        host.write(f"/run/systemd/system/chaosd.{kind}.d/test.conf", text)
    host.ask("systemctl", "daemon-reload")
    host.ask("systemctl", "reset-failed")


def shown(host: Booted, name: str, unit: str = "chaosd.service") -> int:
    return int(host.ask("systemctl", "show", f"--property={name}", "--value", unit))


def main_pid(host: Booted, unit: str = "chaosd.service") -> int:
    return shown(host, "MainPID", unit)


class Victim:
    """A service that sleeps, and is paused by runs."""

    def __init__(self, host: Booted) -> None:
        self._host = host
        self.unit = f"victim{next(_serial)}"
        host.ask("systemd-run", "--quiet", f"--unit={self.unit}", "--service-type=exec", "sleep", "3600")
        self.pid = main_pid(host, f"{self.unit}.service")
        self._freeze = f"/sys/fs/cgroup/system.slice/{self.unit}.service/cgroup.freeze"

    def paused(self) -> bool:
        return self._host.read(self._freeze) == "1"


@contextmanager
def victim(host: Booted) -> Iterator[Victim]:
    one = Victim(host)
    try:
        yield one
    finally:
        host.call("systemctl", "stop", one.unit)  # it is not there any more after a reboot


def pause(pid: int, duration: str) -> tuple[str, ...]:
    return ("chaosd", "inject", "process.pause", "--target", f"pid:{pid}", "--duration", duration, "--json")


@contextmanager
def paused(host: Booted, *, duration: str = "60s", alone: bool = False) -> Iterator[tuple[Victim, str]]:
    """A victim that a run has paused, and the run's name; the test ends it, before its 60 s do."""
    with victim(host) as one:
        shell = ("systemd-run", "--quiet", "--pipe", "--wait", "--setenv=CHAOSD_ALONE=1") if alone else ()
        process = host.start(*shell, *pause(one.pid, duration))
        try:
            until(one.paused, "the victim was not paused")
            run = live(host)[0]["run"]
            until(lambda: armed(host, run), "there is no timer")
            yield one, run
            until(lambda: process.poll() is not None, "the command does not end")
        finally:
            process.kill()
            process.communicate()


def live(host: Booted) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.ask("chaosd", "status", "--json"))
    return found


def armed(host: Booted, run: str) -> bool:
    return host.call("test", "-e", f"{TRANSIENT}/chaosd-run-{run}.timer").returncode == 0


def records(host: Booted, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.read(f"{LOG}/{run}.jsonl").splitlines()]


def ended(host: Booted, run: str) -> dict[str, Any]:
    """The last word of a run, which must be closed: no journal, no timer, no cgroup of it is left."""
    assert not live(host)
    until(lambda: not armed(host, run), "its timer is still there")
    assert not host.call("find", "/sys/fs/cgroup", "-name", "chaosd-*", "-type", "d").stdout.strip()
    (end,) = (record for record in records(host, run) if record["type"] == "end")
    return end


def began(host: Booted) -> float:
    """When the daemon was started, in seconds of CLOCK_BOOTTIME, as records have them."""
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return shown(host, "ExecMainStartTimestampMonotonic") / 1e6 + slept


def test_units_hold_what_systemd_checks(host: Booted) -> None:
    """Nothing to complain of, and no wider open than the unit's file gives reasons for."""
    checked = host.call("systemd-analyze", "verify", "--man=no", *UNITS)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    said = host.call("systemd-analyze", "--no-pager", "security", "chaosd.service").stdout
    found = re.search(r"Overall exposure level for chaosd.service: ([\d.]+)", said)
    assert found is not None
    assert float(found[1]) <= EXPOSURE
    enabled = host.ask("systemctl", "is-enabled", "chaosd.socket", "chaosd-recover.service")
    assert enabled == "enabled\nenabled"


def test_the_fences_keep_no_fault_from_its_work(host: Booted) -> None:
    """Every mechanism that this kernel has works from inside of the unit as well."""
    unit = host.read("/usr/lib/systemd/system/chaosd.service")
    fences = re.sub(r"(?m)^(Type|Exec\w+|Restart|WatchdogSec)=.*\n", "", unit)
    look = "Type=oneshot\nStandardOutput=file:/run/inside.json\nExecStart=chaosd doctor --json\n"
    host.write("/run/systemd/system/inside.service", fences.replace("[Service]\n", f"[Service]\n{look}"))
    host.ask("sh", "-c", "rm -f /var/lib/chaosd/proven")  # what was proven outside counts for nothing
    host.ask("systemctl", "daemon-reload")
    host.call("systemctl", "start", "inside")
    inside, outside = (
        {one["fault"]: one["mechanism"] for one in json.loads(text)["faults"]}
        for text in (host.read("/run/inside.json"), host.call("chaosd", "doctor", "--json").stdout)
    )
    assert inside == outside
    assert sum(mechanism is not None for mechanism in inside.values()) > 5


def test_who_connects_starts_the_daemon(host: Booted) -> None:
    """It is down, and a run goes through it all the same."""
    host.ask("systemctl", "stop", "chaosd.service")
    with victim(host) as one:
        done = host.call(*pause(one.pid, "300ms"))
        assert done.returncode == 0, done.stderr
        assert host.call("systemctl", "is-active", "chaosd.service").stdout == "active\n"
        assert ended(host, json.loads(done.stdout)["run"])["verdict"] == "passed"


def test_members_of_the_group_may_act_and_others_nothing(host: Booted) -> None:
    """A member runs a fault; a stranger does not get through to the daemon, or where he does, no further."""
    host.ask("sh", "-c", "id member 2>/dev/null || useradd --groups chaosd member")
    host.ask("sh", "-c", "id stranger 2>/dev/null || useradd stranger")

    def inject(user: str, pid: int) -> subprocess.CompletedProcess[str]:
        become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
        return host.call(*become, *pause(pid, "300ms"))

    with victim(host) as one:
        done = inject("member", one.pid)
        assert done.returncode == 0, done.stderr
        assert ended(host, json.loads(done.stdout)["run"])["verdict"] == "passed"
        before = host.ask("ls", LOG)
        assert "must be root" in inject("stranger", one.pid).stdout
        drop_ins(host, socket="[Socket]\nSocketMode=0666\n")
        host.ask("systemctl", "restart", "chaosd.socket", "chaosd.service")
        assert "stranger may not act" in inject("stranger", one.pid).stdout
        assert host.ask("ls", LOG) == before
        assert not one.paused()


def test_the_daemon_is_killed_in_mid_run(host: Booted) -> None:
    """systemd kills the engine too; the watchdog, in a cgroup of its own, puts back; a new daemon comes."""
    with paused(host) as (one, run):
        daemon = main_pid(host)
        host.ask("kill", "-KILL", str(daemon))
        until(lambda: not one.paused(), "it stays paused", 10)
        until(lambda: main_pid(host) not in (daemon, 0), "no new daemon comes")
        until(lambda: not live(host), "the run is not closed")
    end = ended(host, run)
    assert (end["verdict"], end["reason"]) == ("killed", "the engine died")


def test_what_engines_are_forked_from_is_killed_and_a_new_daemon_comes(host: Booted) -> None:
    with paused(host) as (one, run):
        daemon = main_pid(host)
        host.ask("pkill", "-KILL", "-x", "chaosd-zygote")
        until(lambda: not one.paused(), "it stays paused", 10)
        until(lambda: main_pid(host) not in (daemon, 0), "no new daemon comes")
    assert ended(host, run)["verdict"] == "interrupted"
    assert ended(host, run)["t"] < began(host)
    said = host.ask("journalctl", "-o", "cat", "-u", "chaosd.service", f"_PID={daemon}")
    assert said.count("the process that engines are forked from has died, and so every run was ended") == 1
    with victim(host) as one:
        assert json.loads(host.ask(*pause(one.pid, "300ms")))["verdict"] == "passed"


@pytest.mark.parametrize(("sign", "reason"), [("KILL", "put back by hand"), ("STOP", "SIGTERM")])
def test_the_daemon_takes_engine_and_watchdog_along(host: Booted, sign: str, reason: str) -> None:
    """While the watchdog is still in the daemon's cgroup, ExecStopPost puts back, before a new daemon starts.

    A daemon that hangs is killed by systemd; its engine is then told by the kernel, and puts back itself.
    """
    drop_ins(host, service=NO_CGROUP + "WatchdogSec=2\n")
    host.ask("systemctl", "restart", "chaosd.service")
    filters = ("tc", "filter", "show", "dev", "lo", "egress")
    before = host.ask(*filters)
    words = ("chaosd", "inject", "network.loss", "percent=100%", "ports=[9]", "--target", "host")
    process = host.start(*words, "--duration", "60s", "--yes-entire-system", "--json")
    until(lambda: host.ask(*filters) != before, "no fault")
    until(lambda: armed(host, live(host)[0]["run"]), "there is no timer")
    run, daemon = live(host)[0]["run"], main_pid(host)
    assert not host.call("find", "/sys/fs/cgroup", "-name", "chaosd-*", "-type", "d").stdout
    host.ask("kill", f"-{sign}", str(daemon))
    until(lambda: main_pid(host) not in (daemon, 0), "no new daemon comes", 20)
    assert host.ask(*filters) == before
    process.communicate(timeout=20)
    assert reason in ended(host, run)["reason"]
    assert ended(host, run)["t"] < began(host)


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_stopping_or_restarting_restores_first(host: Booted, verb: str) -> None:
    """The engine itself puts back, before the daemon is gone; a new one is ready only after that."""
    with paused(host) as (one, run):
        host.ask("systemctl", verb, "chaosd.service")
        assert not one.paused()
    assert ended(host, run)["verdict"] == "interrupted"
    state = host.call("systemctl", "show", "--property=Result", "--value", "chaosd").stdout
    assert state == "success\n"
    if verb == "restart":
        assert ended(host, run)["t"] < began(host)


def test_engine_and_watchdog_are_dead_and_a_timer_puts_back(host: Booted) -> None:
    """Without any daemon: the last layer, some time after the deadline, and nothing of it is left."""
    host.ask("systemctl", "stop", "chaosd.socket", "chaosd.service")
    with paused(host, duration="2s", alone=True) as (one, run):
        shot = f"{TRANSIENT}/chaosd-run-{run}.timer"
        assert "OnActiveSec=" in host.read(shot)
        early = host.call("chaosd", "revert", run, "--overdue")
        assert early.returncode == 2
        assert "s left" in early.stderr
        kill_both(host)
        killed = time.monotonic()
        assert one.paused()
        until(lambda: not one.paused(), "nobody puts it back", 2 + timer.GRACE + 10)
        assert time.monotonic() - killed > timer.GRACE - 1
        until(lambda: not live(host), "the run is not closed")
    assert ended(host, run)["verdict"] == "killed"
    until(
        lambda: f"chaosd-run-{run}" not in host.ask("systemctl", "list-units", "--all", "chaosd-run-*"),
        "it is left",
    )


def test_what_is_still_there_at_a_boot_is_put_back(host: Booted) -> None:
    """Where the kernel went on and the processes did not: before any service, and the timer goes too."""
    host.ask("systemctl", "stop", "chaosd.socket", "chaosd.service")
    with paused(host, alone=True) as (one, run):
        kill_both(host)
        assert one.paused()
        host.ask("systemctl", "restart", "chaosd-recover.service")
        assert not one.paused()
    assert ended(host, run)["reason"] == "put back by hand"


def kill_both(host: Booted) -> None:
    """Kill the engine of a run from a shell, and its watchdog; there is no daemon."""
    host.ask("pkill", "-KILL", "-x", "chaosd-watchdog|chaosd")


def test_a_timer_leaves_a_run_alone_that_is_in_order(host: Booted) -> None:
    """A run that waits for its target to recover has put everything back, and goes on."""
    host.write("/run/down.yaml", DOWN)
    host.ask("systemd-run", "--quiet", "--unit=web", "python3", "-m", "http.server", "8080")
    connect = ("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8080))")
    until(lambda: host.call(*connect).returncode == 0, "no server")
    with victim(host) as one:
        process = host.start("chaosd", "run", "/run/down.yaml", "--target", f"pid:{one.pid}", "--json")
        until(lambda: [view for view in live(host) if view["phase"] == "fault"], "no fault", 20)
        host.ask("systemctl", "stop", "web")
        until(lambda: [view for view in live(host) if view["phase"] == "recover"], "no recovery", 20)
        run = live(host)[0]["run"]
        assert host.ask("chaosd", "revert", run, "--overdue") == "nothing to put back"
        assert [view["alive"] for view in live(host)] == [True]
        assert process.poll() is None
        process.communicate(timeout=30)
        assert ended(host, run)["verdict"] == "aborted"
        assert host.ask("chaosd", "revert", run, "--overdue") == "nothing to put back"


DOWN = """
name: down
duration: 2s
blast_radius: single-service
steady_state:
  - tcp: {host: 127.0.0.1, port: 8080, within: 1s}
faults:
  - process.pause: {}
abort_when: []
recover_within: 6s
"""


def test_a_reboot_closes_what_is_of_another_boot(host: Booted) -> None:
    """A journal that outlived its kernel is closed early in the boot, and nothing is touched for it."""
    with paused(host) as (_, run):
        journal = host.read(f"/run/chaosd/{run}.jsonl")
        host.write("/var/kept.jsonl", journal + "\n")
        host.write(
            "/etc/tmpfiles.d/kept.conf", f"C /run/chaosd/{run}.jsonl 0600 root root - /var/kept.jsonl\n"
        )
        before, boot = host.pid, host.read("/proc/sys/kernel/random/boot_id")
        host.call("systemctl", "reboot")
        host.wait_until_up(before)
    assert host.read("/proc/sys/kernel/random/boot_id") != boot
    host.ask("rm", "/etc/tmpfiles.d/kept.conf")
    assert host.call("systemctl", "is-active", "chaosd-recover", "chaosd.socket").stdout == "active\nactive\n"
    assert ended(host, run)["verdict"] == "killed"
    undone = {record["undo"] for record in records(host, run) if record["type"] == "reverted"}
    assert undone == {"already gone"}
    recovered = shown(host, "ExecMainExitTimestampMonotonic", "chaosd-recover.service")
    assert 0 < recovered < shown(host, "ActiveEnterTimestampMonotonic", "sysinit.target")


def files(host: Booted) -> set[str]:
    """All files on the host's disk but logs, caches and what dpkg and systemd keep of their own work."""
    skip = "^/(proc|sys|dev|run|tmp|srv|var/log|var/cache|var/lib/dpkg|var/lib/systemd)(/|$)"
    return {line for line in host.ask("find", "/", "-xdev").splitlines() if not re.search(skip, line)}


def test_the_package_goes_as_it_came(host: Booted) -> None:
    """A removal in mid-run restores first; a purge leaves no file, group, unit or socket."""
    with paused(host) as (one, run):
        host.ask("dpkg", "--remove", "chaosd")
        assert not one.paused()
        verdict = next(record for record in records(host, run) if record["type"] == "end")["verdict"]
        assert verdict == "interrupted"
    host.ask("dpkg", "--purge", "chaosd")
    gone(host)
    clean = files(host)
    host.ask("sh", "-c", "dpkg -i /srv/package/*.deb")
    assert {"/usr/bin/chaosd", "/usr/share/man/man8/chaosd.8"} <= files(host) - clean
    host.ask("chaosd", "scenarios", "list")
    host.ask("dpkg", "--purge", "chaosd")
    assert files(host) == clean
    gone(host)


def gone(host: Booted) -> None:
    assert not [name for name in files(host) if "chaosd" in name]
    assert host.call("getent", "group", "chaosd").stdout == ""
    assert "chaosd" not in host.ask("systemctl", "list-units", "--all")
    assert host.call("find", "/run", "-xdev", "-name", "*chaosd*").stdout == ""


def test_make_install_goes_as_it_came(bare: Booted) -> None:
    """The same files without dpkg, twice over each other; a removal keeps the history, a purge nothing."""
    bare.ask("dpkg", "--purge", "chaosd")
    clean = files(bare)
    install = ("bash", "/srv/tree/tools/install.sh")
    for _ in range(2):
        bare.ask(*install, "install", "/srv/package/root")
        bare.ask("systemctl", "start", "chaosd.service")
    with paused(bare) as (one, _):
        bare.ask(*install, "uninstall")
        assert not one.paused()
    assert {name for name in files(bare) - clean if "/runs/" not in name} == {
        "/etc/chaosd",
        "/var/lib/chaosd",
        LOG,
    }
    bare.ask("/srv/tree/tools/package/postrm", "purge")
    gone(bare)
    assert {re.sub("-$", "", name) for name in files(bare)} == {re.sub("-$", "", name) for name in clean}
