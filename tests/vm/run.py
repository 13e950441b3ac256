"""Boots each test kernel in QEMU and runs the host tests inside: ``run.py [--kernel NAME] [PYTEST...]``.

There is no hardware virtualization in it: everything is emulated, so that it runs anywhere. A guest
keeps one processor busy, and they run side by side. The tests are dealt out, a ninth to each kernel,
unless ``--whole`` is given: see tests/conftest.py. ``--shift 1`` to ``8`` deals them out in another way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from threading import Thread
from typing import IO, NoReturn

import image
import psutil
import results

KERNELS = ("6.1", "6.12", "override")
HANDS = 9
REQUIRE = (
    "gate,tagging,connect,reset,ifb,netem,tbf,tap,freezer,security-hooks,bpf-lsm,ptrace,"
    "cgroup-v2-cpu,cgroup-v2-cpuset,cgroup-v2-memory,cgroup-v2-pids"
)
"""The capabilities that each kernel must have: where one is missing, tests fail and do not skip."""
REQUIRE_OF = {"6.1": ",bcc", "override": ",kprobe-override,error-injection"}
"""What one of them must have besides: bcc only where there are headers (kernel.sh)."""

NOT_OF_THE_KERNEL = (
    "action",
    "chaostoolkit",
    "pytest_plugin",
    "python_api",
    "checks_live",
    "daemon_access",
    "daemon_ahead",
    "daemon_api",
    "daemon_calendar",
    "daemon_death",
    "daemon_load",
    "daemon_suite",
    "dashboard",
    "dashboard_access",
    "journald",
    "prometheus",
    "webhook_runs",
    "checks_servers",
    "threshold_release",
    "demo",
    "report_pages",
    "service",
    "monkey_runs",
    "schedule_runs",
    "suite_runs",
    "container_faults",
    "container_targets",
    "systemd_units",
    "targets_protect",
    "targets_unit",
)
"""Host tests of programs above the kernel, which another kernel tells nothing about."""
NOT_EMULATED = (
    "test_relay",
    "test_real_programs",
    "test_syscall_scenarios",
    "test_tracing",
    "test_scenarios_effect",
    "test_resilience",
    "test_chaos_all",
    "test_timeline_live",
    "test_restart_starts_a_container_that_is_down",
)
"""Left out of a hand: what takes too long in an emulator, such as load generators and each call of a traced
process, and the container engine, which wants AppArmor's tools in the guest. ``--whole`` runs them."""
_LONGEST = "6.1"
"""It alone compiles with bcc, so it would be done last: the others leave it a processor."""
NOT_HERE = ("test_deed_before_promise_would_be_caught_here",)
"""Crash tests of the crash tests themselves."""

_HERE = Path(__file__).resolve().parent
_BUILD = image.TREE / "build"
_HOST_TESTS = image.TREE / "tests" / "host"
# Emulated mitigations cost time and prove nothing. The emulated processors share the host's TSC,
# which the kernel cannot know. The rest are drivers for devices that no test uses.
_CMDLINE = (
    "mitigations=off nokaslr tsc=reliable clocksource=tsc random.trust_cpu=on loglevel=5 "
    "modprobe.blacklist=ahci,evdev,i2c_i801,i6300esb,iTCO_wdt,lpc_ich,pcspkr,psmouse,serio_raw,sg,sr_mod"
)
# The plain model: newer instructions are chosen by the C library for speed and are slow to emulate.
_CPU = "qemu64,-svm,+rdrand"
# An instruction takes 1 ns of the guest's time, however long the host needs for it; an idle guest waits in
# real time. So a guest is not late by its own clock, whatever else the host does, and its times compare.
_CLOCK = "-icount shift=0,sleep=on"
_BOOT = 180  # seconds that halting may take, on a busy machine


def main() -> int:
    """Run the kernels, print the table; 0 only if every kernel booted and no test failed."""
    args, pytest_args = _arguments()
    if unknown := [name for name in NOT_OF_THE_KERNEL if not (_HOST_TESTS / f"test_{name}.py").exists()]:
        raise SystemExit(f"NOT_OF_THE_KERNEL: there is no test of {', '.join(unknown)}")
    _BUILD.mkdir(exist_ok=True)
    kernels = args.kernel or KERNELS
    with tempfile.TemporaryDirectory(prefix="chaosd-vm-") as name, ThreadPoolExecutor(args.jobs) as pool:
        signal.signal(signal.SIGTERM, lambda *_: _end(pool))
        disk = Path(name, "disk.ext4")
        image.build(disk)
        guests = [Guest(kernel, disk, pytest_args, args) for kernel in kernels]
        runs = dict(zip(kernels, pool.map(Guest.run, guests), strict=True))
    print(results.table(runs))
    for guest in guests:
        if guest.problem:
            print(f"{guest.kernel}: {guest.problem}")
    print(results.closing(runs))
    return 0 if results.good(runs) and not any(guest.problem for guest in guests) else 1


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description="the host tests on several kernels; the rest goes to pytest")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="only this one (repeatable)")
    parser.add_argument(
        "--limit", type=int, default=2700, help="seconds for the tests of one kernel (%(default)s)"
    )
    parser.add_argument(
        "--whole", action="store_true", help="every test on every kernel, not a ninth on each"
    )
    parser.add_argument("--shift", type=int, default=0, help="other tests for each kernel (0 to 8)")
    parser.add_argument("--jobs", type=int, default=len(KERNELS), help="kernels at a time (%(default)s)")
    return parser.parse_known_args()


class Guest:
    """One boot of one kernel; after ``run``, ``problem`` says what was wrong with the boot, if anything."""

    def __init__(self, kernel: str, disk: Path, pytest_args: list[str], args: argparse.Namespace) -> None:
        self.kernel = kernel
        self.problem = ""
        self._disk = disk
        self._pytest_args = pytest_args
        self._limit: int = args.limit
        self._whole: bool = args.whole or bool(pytest_args)
        self._shift: int = args.shift
        self._folder = Path(tempfile.mkdtemp(dir=disk.parent, prefix=f"{kernel}-"))

    def run(self) -> dict[str, results.Outcome]:
        """Boot, run the tests, and hand back what became of them."""
        start = time.monotonic()
        self._prepare()
        try:
            self._boot(_image(self.kernel))
        except subprocess.CalledProcessError:
            self.problem = "cannot be had"
            return {}
        self._say(f"{time.monotonic() - start:.0f} s")
        return self._results()

    def _results(self) -> dict[str, results.Outcome]:
        junit = self._folder / "junit.xml"
        if not junit.exists() or not (self._folder / "status").exists():
            tail = (self._folder / "console").read_text("utf-8", "replace").splitlines()[-40:]
            why = self.problem or "ended before its tests did"
            self.problem = "\n".join([f"{why}; its console:", *tail])
            return {}
        if (self._folder / "status").read_text("ascii").strip() == "124":  # timeout(1)
            self.problem = f"not done after {self._limit} s"
        shutil.copy(junit, _BUILD / f"vm-{self.kernel}.xml")
        return results.read(junit)

    def _say(self, line: str) -> None:
        print(f"{self.kernel:9}| {line.rstrip()}", flush=True)

    def _prepare(self) -> None:
        number = KERNELS.index(self.kernel)
        hand = {} if self._whole else {"CHAOSD_HAND": f"{(number + self._shift) % HANDS}/{HANDS}"}
        chaos = {name: os.environ[name] for name in ("CHAOSD_CHAOS",) if name in os.environ}
        environment = (
            hand
            | chaos
            | {
                "CHAOSD_LEAVE_OUT": ",".join(NOT_EMULATED),
                "CHAOSD_CRASH_SHARE": os.environ.get("CHAOSD_CRASH_SHARE", "0.03"),
                "CHAOSD_CRASH_OFFSET": str(11 * number),
                "CHAOSD_TREE": str(image.TREE),
                "CHAOSD_PYTHON": sys.executable,
                "PYTHONUNBUFFERED": "1",
                "CHAOSD_REQUIRE": os.environ.get("CHAOSD_REQUIRE", REQUIRE + REQUIRE_OF.get(self.kernel, "")),
            }
        )
        arguments = [
            *("tests/host", "tests/crash"),
            *(f"--ignore=tests/host/test_{name}.py" for name in NOT_OF_THE_KERNEL),
            *(f"--deselect=tests/crash/test_crash.py::{name}" for name in NOT_HERE),
            *(f"--junitxml={self._folder}/junit.xml", "--timeout=300"),
            *self._pytest_args,
        ]
        _write(self._folder / "environment", [f"{name}={value}" for name, value in environment.items()])
        _write(self._folder / "arguments", arguments)

    def _command(self, kernel_image: str) -> list[str]:
        drive = f"if=none,id=tree,format=raw,snapshot=on,file={self._disk}"
        qemu = f"-cpu {_CPU} {_CLOCK} -drive {drive} -device virtio-blk-pci,drive=tree"
        return [
            *(str(Path(sys.prefix, "bin", "vng")), "--run", kernel_image),
            *("--disable-kvm", "--disable-microvm", "--cpus", "1", "--memory", "2G", "--user", "root"),
            *("--verbose", "--append", _CMDLINE, f"--qemu-opts={qemu}"),
            *("--rwdir", str(self._folder), "--", "bash", str(_HERE / "guest.sh"), str(self._folder)),
        ]

    def _boot(self, kernel_image: str) -> None:
        # vng looks for its own other programs on PATH.
        environment = {**os.environ, "PATH": f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"}
        # Pipes, because QEMU opens its outputs by path and would truncate a file.
        vm = subprocess.Popen(
            ["nice", "-n", "0" if self.kernel == _LONGEST else "5", *self._command(kernel_image)],
            env=environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            errors="replace",
        )
        pumps = [Thread(target=self._show, args=[vm.stdout]), Thread(target=self._keep, args=[vm.stderr])]
        for pump in pumps:
            pump.start()
        try:
            vm.wait(self._limit)
        except subprocess.TimeoutExpired:
            (self._folder / "over").touch()  # the guest's own clock is another
        try:
            vm.wait(_BOOT)
        except subprocess.TimeoutExpired:
            self.problem = "hangs"
            _kill_below(vm.pid)
        for pump in pumps:
            pump.join()

    def _show(self, source: IO[str]) -> None:
        for line in source:
            self._say(line)

    def _keep(self, source: IO[str]) -> None:
        with (self._folder / "console").open("w", encoding="utf-8") as console:
            shutil.copyfileobj(source, console)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _image(kernel: str) -> str:
    answer = subprocess.run([str(_HERE / "kernel.sh"), kernel], check=True, stdout=PIPE, text=True)
    return answer.stdout.strip()


def _end(pool: ThreadPoolExecutor) -> NoReturn:
    pool.shutdown(wait=False, cancel_futures=True)
    _kill_below(os.getpid())
    raise SystemExit("ended")


def _kill_below(pid: int) -> None:
    """End QEMU and what else the starter of a guest started."""
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
