"""The process that holds a user's probe, as the engine that started it knows it, and how others find it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import probe_process
from chaosd.kernel.capability import Verdict, capability

PYTHON = "/usr/bin/python3"
"""The distribution's own, which alone can import its bcc."""

COMPILE_WITHIN = 600.0
"""Seconds: bcc needs one or two on a host, and minutes in an emulator that is not alone."""
_ATTACH_WITHIN = 60.0
_KHEADERS = "/sys/kernel/kheaders.tar.xz"


class Child:
    """A process that compiles at once, waits until it may attach, and ends with this object.

    Args:
        run, index: of its edit, by which others know it.
        text: what to compile.
        maps: that the probe uses, by name.
    """

    def __init__(self, run: str, index: int, text: str, maps: Mapping[str, int]) -> None:
        self.process = subprocess.Popen(
            [PYTHON, "-I", probe_process.__file__, run, str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=tuple(maps.values()),
            start_new_session=True,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )
        self._compiled, self._patience = False, time.monotonic() + COMPILE_WITHIN
        self._tell(json.dumps({"parent": os.getpid(), "text": text, "maps": dict(maps)}))

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its answer shows
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def compiled(self, within: float = 0.0) -> bool:
        """Whether it is compiled and the kernel has taken it (``ChaosdError`` says why it is not)."""
        self._compiled = self._compiled or self._answered(within)
        if not self._compiled and time.monotonic() > self._patience:
            raise ChaosdError(f"the probe was not compiled within {COMPILE_WITHIN:.0f} s")
        return self._compiled

    def attach(self) -> None:
        """Attach what it has compiled.

        Raises:
            ChaosdError: it does not compile, or the kernel refused it.
        """
        while not self.compiled(within=1.0):
            pass
        self._tell("")
        if not self._answered(_ATTACH_WITHIN):
            raise ChaosdError(f"the probe was not attached within {_ATTACH_WITHIN:.0f} s")

    def _answered(self, within: float) -> bool:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], within)[0]:
            return False
        said = self.process.stdout.readline()
        answer = json.loads(said) if said.startswith(b"{") else {}
        if why := answer.get("refused"):
            lacks = "install the package" in answer["hint"]
            raise (UnsupportedError if lacks else ChaosdError)(why, hint=answer["hint"])
        if not answer:
            self.process.wait(1)
            raise ChaosdError(f"the process of the probe ended with status {self.process.returncode}")
        return True

    def problem(self) -> str:
        """Why the probe is not there any more; empty while it is."""
        status = self.process.poll()
        return "" if status is None else f"its process has ended with status {status}"

    def close(self) -> None:
        """End it, and the probe with it."""
        self.process.kill()  # there is nothing that it would have to put back
        self.process.communicate()


def helpers(run: str, index: int) -> Iterator[int]:
    """The pids of the processes on this host that hold the probe of an edit, whoever started them."""
    script = os.path.basename(probe_process.__file__)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")
            named = words[1:2] == ["-I"] and os.path.basename("".join(words[2:3])) == script
            if named and words[3:5] == [run, str(index)] and os.stat(file.fileno()).st_uid == os.geteuid():
                yield int(pid)


@capability("bcc")
def BCC() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether bcc can compile for this kernel: not lasting, for packages come and go."""
    try:
        done = subprocess.run(
            [PYTHON, "-I", "-c", "import bcc"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Verdict(ok=False, reason=f"{PYTHON}: {error}", mend="install the package python3-bpfcc")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it cannot import bcc"])[-1]
        return Verdict(ok=False, reason=f"{PYTHON}: {why}", mend="install the package python3-bpfcc")
    release = os.uname().release
    build = f"/lib/modules/{release}/build"
    if not os.path.isdir(build) and not os.path.exists(_KHEADERS):
        mend = f"install the package linux-headers-{release}"
        return Verdict(ok=False, reason=f"no kernel headers at {build}", mend=mend)
    return _traceable()


def _traceable() -> Verdict:
    if os.path.isdir(probe_process.PINS) and any(map(os.path.isdir, probe_process.TRACEFS)):
        return Verdict(ok=True)
    return Verdict(ok=False, reason="no tracefs is mounted", mend="mount -t tracefs none /sys/kernel/tracing")
