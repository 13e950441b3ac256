"""How far a fault on system calls reaches: 32-bit callers, io_uring, the vDSO, and a whole host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import world
from caller import caller
from injecting import NEEDS, injected, planned
from test_syscall_error import aimed, failed

from chaosd.faults.syscall_error import SyscallError
from chaosd.kernel.process import ProcessRef
from chaosd.targets.model import Target

ROOT = Path(__file__).resolve().parents[2]

# int $0x80 from a 64-bit process is a 32-bit call: open is number 5 there. What it points to must lie
# below 4 GiB.
_COMPAT_X86 = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, 4096, 7, 0x62, -1, 0)  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT
code = bytes.fromhex("53 89f8 89f3 87d1 cd80 5b c3")
ctypes.memmove(page, code, len(code))
ctypes.memmove(page + 512, sys.argv[1].encode() + b"\\0", len(sys.argv[1]) + 1)
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)(page)
if sys.argv[2:] == ["try"]:
    sys.exit(call(5, page + 512, 0, 0) < 0)
print("up", flush=True)
for line in sys.stdin:
    results = [call(5, page + 512, 0, 0) for _ in range(int(line))]
    print(" ".join("ok" if fd >= 0 else errno.errorcode[-fd] for fd in results), flush=True)
"""

# No call of a 64-bit process is a 32-bit one on arm64. So this makes a program, the headers of elf(5) and 23
# instructions of ARM: for each byte that it reads it opens argv[1], and writes 0 or the errno.
_COMPAT_ARM = """
import errno, os, sys
program = os.memfd_create("chaosd-test-32")
os.write(program, bytes.fromhex(
    "7f454c460101010000000000000000000200280001000000540001003400000000000000000000053400200001000000"
    "0000000001000000000000000000010000000100b0000000b0000000050000000010000008409de50000a0e30d10a0e1"
    "0120a0e30370a0e3000000ef010050e30170a0130000001f0400a0e10010a0e30570a0e3000000ef000050e30670a0a3"
    "000000af000060e20000cde50100a0e30d10a0e10470a0e3000000efe9ffffea"
))

def opened(count):
    (its, ours), (result, said) = os.pipe(), os.pipe()
    os.write(ours, bytes(count))
    os.close(ours)
    files = [(os.POSIX_SPAWN_DUP2, its, 0), (os.POSIX_SPAWN_DUP2, said, 1)]
    pid = os.posix_spawn(f"/proc/self/fd/{program}", ["open", sys.argv[1]], {}, file_actions=files)
    os.waitpid(pid, 0)
    answer = os.read(result, count)
    for fd in (its, result, said):
        os.close(fd)
    return answer

if sys.argv[2:] == ["try"]:
    sys.exit(opened(1) != bytes(1))
print("up", flush=True)
for line in sys.stdin:
    print(" ".join(errno.errorcode.get(error, "ok") for error in opened(int(line))), flush=True)
"""

COMPAT = _COMPAT_X86 if os.uname().machine == "x86_64" else _COMPAT_ARM

# one read of one byte at a time, submitted by io_uring_enter(2); offsets as in linux/io_uring.h
_URING = """
import ctypes, errno, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
params = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 4, params)
if ring < 0:
    print(errno.errorcode[ctypes.get_errno()], flush=True)
    sys.exit()
said = struct.unpack("=30I", params.raw)
queue, done = said[10:20], said[20:30]
both = mmap.mmap(ring, max(queue[6] + 4 * said[0], done[5] + 16 * said[1]), offset=0)
entries = mmap.mmap(ring, 64 * said[0], offset=0x10000000)
file, data = os.open(sys.argv[1], os.O_RDONLY), ctypes.create_string_buffer(1)

def read():
    tail = struct.unpack_from("=I", both, queue[1])[0]
    entries[:64] = struct.pack("=BBHiQQII", 22, 0, 0, file, 0, ctypes.addressof(data), 1, 0) + bytes(32)
    struct.pack_into("=I", both, queue[6] + 4 * (tail % said[0]), 0)
    struct.pack_into("=I", both, queue[1], tail + 1)
    assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1
    head = struct.unpack_from("=I", both, done[0])[0]
    result = struct.unpack_from("=i", both, done[5] + 16 * (head % said[1]) + 8)[0]
    struct.pack_into("=I", both, done[0], head + 1)
    return "ok" if result == 1 else errno.errorcode.get(-result, str(result))

print("up", flush=True)
for line in sys.stdin:
    print(" ".join(read() for _ in range(int(line))), flush=True)
"""

_READER = """
import os, sys, time
for _ in range(6000):
    try:
        os.pread(0, 1, 0)
    except OSError as error:
        sys.exit(error.errno)
    time.sleep(0.02)
"""


class Asked:
    """A process that makes as many calls as it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid
        assert process.stdout is not None
        self.first = process.stdout.readline().strip()

    def make(self, count: int) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()


def aimed_at(asked: Asked) -> Target:
    return Target(f"pid:{asked.pid}", processes=(ProcessRef.of(asked.pid),))


def need_compat(file: Path) -> None:
    tried = subprocess.run(world.python(COMPAT, file, "try"), check=False)
    if tried.returncode:
        pytest.skip(f"this kernel takes no 32-bit calls (exit status {tried.returncode})")


def test_32_bit_callers_are_met(mechanism: str, file: Path) -> None:
    need_compat(file)
    with world.spawn(world.python(COMPAT, file)) as process:
        target = Asked(process)
        fault = SyscallError(syscalls=["files.open"], errno="EIO", every=3, mechanism=mechanism)
        with injected(fault, aimed_at(target)) as run:
            assert failed(target.make(13)) == [0, 3, 6, 9, 12]
            assert (run.evidence.matched, run.evidence.injected) == (13, 5)
            assert {hit.call for hit in run.hits()} == {"open"}
        assert target.make(2) == ["ok", "ok"]


def test_io_uring_is_met_where_security_modules_are_asked(mechanism: str, file: Path) -> None:
    """It makes no call for what it does, so that nothing at the entry of calls can know of it."""
    with world.spawn(world.python(_URING, file)) as process:
        target = Asked(process)
        if target.first != "up":
            pytest.skip(f"this kernel has no io_uring: {target.first}")
        assert target.make(3) == ["ok"] * 3
        fault = SyscallError(
            syscalls=["files.read"], errno="EIO", path=str(file), every=2, mechanism=mechanism
        )
        with injected(fault, aimed_at(target)) as run:
            said = target.make(5)
            if mechanism == "security":
                assert said == ["EIO", "ok", "EIO", "ok", "EIO"]
                assert {hit.call for hit in run.hits()} == {"io_uring:file_permission"}
            else:
                assert said == ["ok"] * 5
                assert run.evidence.matched == 0
        assert target.make(2) == ["ok", "ok"]


def test_what_the_vdso_answers_is_said_before() -> None:
    world.need(*NEEDS["ptrace"])
    fault = SyscallError(syscalls=["clock_gettime"], errno="EINVAL", mechanism="ptrace")
    with caller() as child:
        assert planned(fault, aimed(child))
    [note] = [line for line in _effects(fault) if "vDSO" in line]
    assert "clock_gettime" in note


def _effects(fault: SyscallError) -> list[str]:
    from chaosd.faults.base import Planning

    return fault.effect(Target("pid:1"), Planning("abcdef", 0, 1, "", 1.0))


def test_a_fault_on_every_read_of_the_host_ends_and_is_put_back(tmp_path: Path) -> None:
    """Chaosd goes on reading, ends in time and reports; whoever it was started from reads on, too."""
    if not os.environ.get("CHAOSD_GUEST"):
        pytest.skip("a whole host is hit in a virtual machine only")
    if all(any(not need().ok for need in NEEDS[name]) for name in ("override", "security")):
        world.need(*NEEDS["security"])
    words = ["inject", "syscall.error", "syscalls=[files.read]", "errno=EIO", "--target", "host"]
    words += ["--yes-entire-system", "--duration", "5s", "--json"]
    environment = os.environ | {
        "CHAOSD_RUN_DIR": str(tmp_path / "run"),
        "CHAOSD_STATE_DIR": str(tmp_path / "state"),
    }
    with (
        Path(__file__).open("rb") as source,
        subprocess.Popen(world.python(_READER), stdin=source) as stranger,
    ):
        argv = [sys.executable, "-m", "chaosd", *words]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert stranger.wait(60) == 5  # EIO
    view = json.loads(done.stdout)
    assert view["verdict"] == "passed"
    assert view["restored"]["stuck"] == []
    assert view["evidence"][0]["injected"] > 0
    assert os.getpid() not in {hit["pid"] for hit in view["hits"]}
    assert Path(__file__).read_text("utf-8")
