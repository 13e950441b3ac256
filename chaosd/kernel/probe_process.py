"""Compiles and holds a user's probe: the one process that runs bcc, under the system's own Python.

It stands alone and is started as ``/usr/bin/python3 -I probe_process.py RUN INDEX``, for bcc is a
package of the distribution that no virtual environment sees. A JSON text on standard input says what to
compile and hands down the maps by descriptor; the next line says that it may attach, and the end of
input that it is over. It answers with a JSON text a line. Everything is bound to its descriptors, so
that its end, by whatever death, ends the probe.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any, Self

PINS = "/sys/fs/bpf"
"""Where the prelude looks for its maps; a file system of our own is mounted there for this process alone."""

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 0x20, 0x1000, 0x4000, 0x40000
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
"""Where bcc reads which tracepoints there are."""

_KPROBE, _TRACEPOINT, _RAW_TRACEPOINT, _TRACING, _LSM = 2, 5, 17, 26, 29  # enum bpf_prog_type, linux/bpf.h
_TYPES = {
    "kprobe": _KPROBE,
    "kretprobe": _KPROBE,
    "tracepoint": _TRACEPOINT,
    "raw_tracepoint": _RAW_TRACEPOINT,
    "kfunc": _TRACING,
    "kretfunc": _TRACING,
    "kmod_ret": _TRACING,
    "lsm": _LSM,
}
_ERROR = re.compile(r"^(\S.*?:\d+):\d+: (?:fatal )?error: (.*)$", re.MULTILINE)
# The verifier's log tells every instruction, and its reason last.
_NOISE = re.compile(r"^(processed \d+ insns|bpf: Failed|HINT:|; |from \d+ to |\d+: |\s*$)")


class Refusal(Exception):  # noqa: N818  # it is an answer
    """Why there will be no probe: ``args`` are the words, and what would mend it."""


def main(arguments: list[str]) -> None:
    """Do what the module says; ``arguments`` are only for those who look for this process in /proc."""
    assert len(arguments) == 2
    settings = json.loads(sys.stdin.buffer.readline())
    _settle(settings["parent"])
    try:
        _apart(settings["maps"])
        probe = _compiled(settings["text"])
        functions = dict(_loaded(probe))
        _say(compiled=True)
        if not sys.stdin.buffer.readline():
            return
        for name in functions:
            _attach(probe, name)
    except Refusal as refusal:
        _say(refused=refusal.args[0], hint=refusal.args[1])
        return
    _say(ready=True)
    sys.stdin.buffer.read()
    os._exit(0)  # bcc would take its time to detach one by one


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _settle(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit("the parent has ended")


def _apart(maps: dict[str, int]) -> None:
    """Pin the maps where the prelude finds them and nobody else does."""
    libc, libbpf = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libbpf.so.1", use_errno=True)

    def mount(*what: Any) -> None:
        if libc.mount(*what, None) < 0:
            number = ctypes.get_errno()
            raise Refusal(f"mount {what[1].decode()}: {os.strerror(number)}", "it takes CAP_SYS_ADMIN")

    if libc.unshare(_CLONE_NEWNS) < 0:
        raise Refusal(f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}", "run it as root")
    mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    for place in filter(os.path.isdir, (f"{folder}/events" for folder in TRACEFS)):
        # What bcc would write there, on kernels that have no other way, would outlive this process.
        tracefs = os.path.dirname(place).encode()
        mount(tracefs, tracefs, None, _MS_BIND)
        mount(b"none", tracefs, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    mount(b"chaosd", PINS.encode(), b"bpf", 0)
    for name, fd in maps.items():
        if libbpf.bpf_obj_pin(fd, f"{PINS}/{name}".encode()) < 0:
            raise Refusal(f"map {name}: {os.strerror(ctypes.get_errno())}", "")


def _compiled(text: str) -> Any:
    release = os.uname().release
    try:
        from bcc import BPF
    except ImportError as error:
        raise Refusal(f"no bcc: {error}", "install the package python3-bpfcc") from None
    build = f"/lib/modules/{release}/build"
    if not os.path.isdir(build) and not os.path.exists("/sys/kernel/kheaders.tar.xz"):
        raise Refusal(f"no kernel headers at {build}", f"install the package linux-headers-{release}")

    class Probe(BPF):  # type: ignore[misc]  # bcc has no types
        def _trace_autoload(self) -> None:
            """Nothing yet: it is loaded now, and attached when it was promised."""

    with _Heard() as heard:
        try:
            return Probe(text=text.encode())
        except Exception as error:  # noqa: BLE001  # bcc raises nothing more precise
            said = heard.words()
            found = _ERROR.search(said)
            why = f"{found[1]}: {found[2]}" if found else _last(said) or str(error)
            raise Refusal(why, "the probe does not compile") from None


def _loaded(probe: Any) -> Iterator[tuple[str, Any]]:
    from bcc import lib

    names = [
        lib.bpf_function_name(probe.module, i).decode() for i in range(lib.bpf_num_functions(probe.module))
    ]
    if not names:
        raise Refusal("the probe has no function to attach", f"such as {', '.join(_TYPES)}: see the manual")
    for name in names:
        way = _way(name)
        if way not in _TYPES:
            hint = f"one of {', '.join(f'{known}__' for known in _TYPES)}, or make it static inline"
            raise Refusal(f"function {name} does not say where it is to be attached", hint)
        with _Heard() as heard:
            try:
                yield name, probe.load_func(name.encode(), _TYPES[way])
            except Exception as error:  # noqa: BLE001  # bcc raises nothing more precise
                raise Refusal(f"the kernel refused {name}: {_reason(heard, error)}", "") from None


def _way(name: str) -> str:
    return name.partition("__")[0]


def _attach(probe: Any, name: str) -> None:
    from bcc import lib

    way, _, place = name.partition("__")
    given: dict[str, bytes] = {"fn_name": name.encode()}
    if way in ("kprobe", "kretprobe"):
        given["event"] = probe.fix_syscall_fnname(place.encode())
    elif way in ("tracepoint", "raw_tracepoint"):
        given["tp"] = place.replace("__", ":").encode() if way == "tracepoint" else place.encode()
    with _Heard() as heard:
        try:
            if way == "kmod_ret":  # bcc has the macro, and no method for it
                if lib.bpf_attach_kfunc(probe.funcs[name.encode()].fd) < 0:
                    raise OSError(os.strerror(ctypes.get_errno()))
            else:
                getattr(probe, f"attach_{way}")(**given)
        except Exception as error:  # noqa: BLE001  # bcc raises nothing more precise
            raise Refusal(f"{name} cannot be attached: {_reason(heard, error)}", "") from None


def _reason(heard: _Heard, error: Exception) -> str:
    # bcc makes of each EPERM that one has to be root.
    number = ctypes.get_errno()
    return _last(heard.words()) or (os.strerror(number) if number == errno.EPERM else str(error))


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if not _NOISE.match(line)]
    return lines[-1].strip() if lines else ""


class _Heard:
    """What bcc and libbpf write to standard error meanwhile, for that is where they give their reasons."""

    def __enter__(self) -> Self:
        self._fd = os.memfd_create("said")
        self._former = os.dup(2)
        os.dup2(self._fd, 2)
        return self

    def words(self) -> str:
        return os.pread(self._fd, 1 << 20, 0).decode(errors="replace")

    def __exit__(self, *_: object) -> None:
        os.dup2(self._former, 2)
        os.close(self._former)
        os.close(self._fd)


if __name__ == "__main__":
    main(sys.argv[1:])
