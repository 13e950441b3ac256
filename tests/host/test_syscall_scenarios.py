"""The scenarios of failing system calls, run as they stand against a service that meets them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import world

from chaosd.errors import UnsupportedError
from chaosd.kernel.netns import NetnsRef
from chaosd.scenario import library, load

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(name for name, path in library().items() if path.parent.name == "syscall")
PORT = 8000
SEED = "64"  # hits the third call, the fifth and the seventh, at one in ten: few come in two seconds

# A worker beside the server uses files, sockets, memory and programs all the time and survives what fails.
_SERVICE = """
import mmap, os, socket, subprocess, sys, threading, time
folder = sys.argv[1]

def attempt(work):
    try:
        work()
    except (OSError, RuntimeError, subprocess.SubprocessError):
        pass

def store():
    fd = os.open(folder + "/data", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.pwrite(fd, b"x" * 100, 0)
        os.fsync(fd)
        os.pread(fd, 100, 0)
    finally:
        os.close(fd)

def connect(port):
    with socket.socket() as end:
        end.connect(("127.0.0.1", port))

def look_up():
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        end.connect(("127.0.0.1", 53))
        end.send(b"?")

def work():
    while True:
        for one in (store, lambda: connect(5432), look_up, lambda: mmap.mmap(-1, 1 << 20).close(),
                    lambda: subprocess.run(["/bin/true"])):
            attempt(one)
        time.sleep(0.05)

threading.Thread(target=work, daemon=True).start()
server = socket.create_server(("127.0.0.1", 8000), backlog=64)
print("up", flush=True)
while True:
    try:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    except OSError:
        time.sleep(0.01)
"""


class Service:
    """A process in a namespace of its own, with a folder for its data."""

    def __init__(self, ns: NetnsRef, pid: int, folder: Path) -> None:
        self.ns, self.pid, self.folder = ns, pid, folder


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "data"
    folder.mkdir()
    with ExitStack() as stack:
        ns = stack.enter_context(world.netns())
        process = stack.enter_context(world.spawn(world.python(_SERVICE, folder), ns=ns))
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield Service(ns, process.pid, folder)


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 12


@pytest.mark.timeout(900)  # one compiles a probe, which takes minutes in an emulator
@pytest.mark.parametrize("name", NAMES)
def test_it_hits_and_the_service_comes_back(name: str, service: Service, tmp_path: Path) -> None:
    settings = {
        "url": f"http://127.0.0.1:{PORT}/",
        "from": service.ns.path,
        "path": str(service.folder),
        "file": "data",
    }
    settings = {key: value for key, value in settings.items() if key in _parameters(name)}
    for step in load(name, settings).faults:
        try:
            step.fault.choose()
        except UnsupportedError as error:
            pytest.skip(str(error))
    words = ["run", name, "--target", f"pid:{service.pid}", "--duration", "2s", "--seed", SEED, "--json"]
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    folders = {"CHAOSD_RUN_DIR": str(tmp_path / "run"), "CHAOSD_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", *words],
        cwd=ROOT, env=os.environ | folders, capture_output=True, text=True, check=False,
    )  # fmt: skip
    view = json.loads(done.stdout)
    assert view["verdict"] in ("passed", "aborted"), (view["reason"], done.stderr)
    assert view["evidence"][0]["injected"] > 0, view["evidence"]
    assert view["hits"], "no hit was told"
    assert view["stats"]["before"]["service"]["availability"] == 1.0
    assert view["recovered_after"] is not None
    assert view["restored"]["differs"] == view["restored"]["stuck"] == []


def _parameters(name: str) -> set[str]:
    from chaosd import document

    path = library()[name]
    return set(document.load(path.read_text("utf-8"), str(path))[0]["parameters"])
