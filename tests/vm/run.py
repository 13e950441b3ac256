"""Boots each test kernel in QEMU and runs the host tests inside: ``run.py [--kernel NAME] [PYTEST...]``.

There is no hardware virtualization in it: everything is emulated, so that it runs anywhere.
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
from pathlib import Path
from subprocess import DEVNULL, PIPE
from threading import Thread
from typing import IO

import image
import results

REQUIRE = {
    "6.1": "tap",
    "6.12": "tap",
    "override": "tap",
}
"""The capabilities that each kernel must have: where one is missing, tests fail and do not skip."""

_HERE = Path(__file__).resolve().parent
_BUILD = image.TREE / "build"
# Emulated mitigations cost time and prove nothing. The emulated processors share the host's TSC,
# which the kernel cannot know. The rest are drivers for devices that no test uses.
_CMDLINE = (
    "mitigations=off nokaslr tsc=reliable clocksource=tsc random.trust_cpu=on loglevel=5 "
    "modprobe.blacklist=ahci,evdev,i2c_i801,i6300esb,iTCO_wdt,lpc_ich,pcspkr,psmouse,serio_raw,sg,sr_mod"
)
# The plain model: newer instructions are chosen by the C library for speed and are slow to emulate.
_CPU = "qemu64,-svm,+rdrand"


def main() -> int:
    """Run the kernels in turn, print the table; 0 only if every kernel booted and no test failed."""
    args, pytest_args = _arguments()
    _BUILD.mkdir(exist_ok=True)
    runs: dict[str, dict[str, results.Outcome]] = {}
    broken = []
    with tempfile.TemporaryDirectory(prefix="chaosd-vm-") as name:
        disk = Path(name, "disk.ext4")
        image.build(disk)
        for kernel in args.kernel or REQUIRE:
            runs[kernel], problem = _run(kernel, disk, pytest_args, args.limit)
            broken += [f"{kernel}: {problem}"] if problem else []
    print(results.table(runs))
    for problem in broken:
        print(problem)
    print(results.closing(runs))
    return 0 if results.good(runs) and not broken else 1


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description="the host tests on several kernels; the rest goes to pytest")
    parser.add_argument("--kernel", action="append", choices=list(REQUIRE), help="only this one (repeatable)")
    parser.add_argument("--limit", type=int, default=900, help="seconds for one kernel (%(default)s)")
    return parser.parse_known_args()


def _run(
    kernel: str, disk: Path, pytest_args: list[str], limit: int
) -> tuple[dict[str, results.Outcome], str]:
    """The outcomes of one kernel, and what went wrong with the kernel itself, if anything."""
    folder = Path(tempfile.mkdtemp(dir=disk.parent, prefix=f"{kernel}-"))
    start = time.monotonic()
    print(f"\n==== {kernel} ====", flush=True)
    _prepare(folder, kernel, pytest_args)
    problem = _boot(_image(kernel), disk, folder, limit)
    print(f"==== {kernel}: {time.monotonic() - start:.0f} s ====", flush=True)
    junit = folder / "junit.xml"
    if not junit.exists() or not (folder / "status").exists():
        tail = (folder / "console").read_text("utf-8", "replace").splitlines()[-40:]
        return {}, f"{problem or 'ended before its tests did'}; its console:\n" + "\n".join(tail)
    shutil.copy(junit, _BUILD / f"vm-{kernel}.xml")
    return results.read(junit), problem


def _image(kernel: str) -> str:
    answer = subprocess.run([str(_HERE / "kernel.sh"), kernel], check=True, stdout=PIPE, text=True)
    return answer.stdout.strip()


def _prepare(folder: Path, kernel: str, pytest_args: list[str]) -> None:
    environment = {
        "CHAOSD_TREE": str(image.TREE),
        "CHAOSD_PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
        "CHAOSD_REQUIRE": os.environ.get("CHAOSD_REQUIRE", REQUIRE[kernel]),
    }
    arguments = [
        *("tests/host", "tests/crash"),
        *(f"--junitxml={folder}/junit.xml", "--timeout=300"),
        *pytest_args,
    ]
    (folder / "environment").write_text("".join(f"{k}={v}\n" for k, v in environment.items()), "utf-8")
    (folder / "arguments").write_text("".join(f"{argument}\n" for argument in arguments), "utf-8")


def _boot(kernel: str, disk: Path, folder: Path, limit: int) -> str:
    """Boot, wait for the tests to end; what went wrong, or nothing. The tests' output goes to stdout."""
    drive = f"-drive if=none,id=tree,format=raw,snapshot=on,file={disk} -device virtio-blk-pci,drive=tree"
    command = [str(Path(sys.prefix, "bin", "vng")), "--run", kernel]
    command += ["--disable-kvm", "--disable-microvm", "--cpus", "2", "--memory", "2G", "--user", "root"]
    command += ["--verbose", "--append", _CMDLINE, f"--qemu-opts=-cpu {_CPU} {drive}", "--rwdir", str(folder)]
    command += ["--", "bash", str(_HERE / "guest.sh"), str(folder)]
    with (folder / "console").open("wb") as console:
        # Pipes, because QEMU opens its outputs by path and would truncate a file.
        vm = subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True)
        assert vm.stdout is not None
        assert vm.stderr is not None
        pumps = [_pump(vm.stdout, sys.stdout.buffer), _pump(vm.stderr, console)]
        try:
            vm.wait(limit)
        except subprocess.TimeoutExpired:
            return f"not done after {limit} s"
        finally:
            _kill(vm)
            for pump in pumps:
                pump.join()
    return ""


def _pump(source: IO[bytes], sink: IO[bytes]) -> Thread:
    def copy() -> None:
        while chunk := os.read(source.fileno(), 65536):
            sink.write(chunk)
            sink.flush()

    thread = Thread(target=copy)
    thread.start()
    return thread


def _kill(vm: subprocess.Popen[bytes]) -> None:
    # QEMU is a child of the starter and shares its process group.
    try:
        os.killpg(vm.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    vm.wait()


if __name__ == "__main__":
    sys.exit(main())
