"""A daemon with folders and a socket of its own, and clients of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from grp import getgrnam
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import world
from orchestrating import ended
from world import until

ROOT = Path(__file__).resolve().parents[2]
GROUP = "games"  # exists on every Debian, and nobody is in it
NOBODY = 65534
MEMBERS = getgrnam(GROUP).gr_gid
MEMBER = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={MEMBERS}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip
"""What a command is started by as somebody of the group, who can read these sources wherever they are."""
PAUSE = "name: pause\nduration: {duration}\nfaults: [process.pause]\n"


class Connection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, place: Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self.place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.place))


class Daemon:
    """``chaosd daemon`` in a process of its own."""

    def __init__(self, stack: ExitStack, folder: Path, config: str = "") -> None:
        self._stack = stack
        self.folder = folder
        self.socket = folder / "api.sock"
        places = {f"CHAOSD_{key}_DIR": str(folder / key.lower()) for key in ("RUN", "STATE", "CONFIG")}
        self.env = os.environ | places | {"PYTHONPATH": str(ROOT), "CHAOSD_SOCKET": str(self.socket)}
        self.config = folder / "daemon.yaml"
        self.config.write_text(f"socket: {self.socket}\ngroup: {GROUP}\n{config}", "utf-8")
        self.log = folder / "log"
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "chaosd", "daemon", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, cwd=self.folder)
        until(self.serves, "does not serve", 60)

    def serves(self) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8")
        with suppress(OSError):
            return self.ask("GET", "/v1/status")[0] == 200
        return False

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status, and the document; text where it is none."""
        status, text = self.read(method, path, body)
        with suppress(ValueError):
            return status, json.loads(text)
        return status, text.decode()

    def read(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        answer = self.open(method, path, body)
        return answer.status, answer.read()

    def open(self, method: str, path: str, body: Any = None) -> HTTPResponse:
        connection = Connection(self.socket)
        connection.request(method, path, None if body is None else json.dumps(body))
        return connection.getresponse()

    def get(self, path: str) -> Any:
        status, found = self.ask("GET", path)
        assert status == 200, found
        return found

    def post(self, path: str, body: Any = None) -> Any:
        status, found = self.ask("POST", path, body or {})
        assert status == 200, found
        return found

    def pause(self, pid: int, duration: str = "60s") -> str:
        """Start a run that pauses a process; its id."""
        order = {"text": PAUSE.format(duration=duration), "target": f"pid:{pid}"}
        return str(self.post("/v1/runs", order)["run"])

    def events(self, run: str) -> list[dict[str, Any]]:
        """All records of a run, once it has ended."""
        return [json.loads(line) for line in self.read("GET", f"/v1/runs/{run}/events")[1].splitlines()]

    def wait_phase(self, run: str, phase: str) -> None:
        until(lambda: self.get(f"/v1/runs/{run}")["phase"] == phase, f"no {phase}", 60)

    def sleeper(self) -> int:
        """A process that does nothing; its pid."""
        program = shutil.which("sleep") or "/bin/sleep"
        return self._stack.enter_context(world.spawn([program, "600"])).pid

    @contextmanager
    def called(self, comm: str) -> Iterator[int]:
        """A process of this name that does nothing; its pid."""
        program = self.folder / comm
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        with world.spawn([str(program), "600"]) as process:
            yield process.pid

    def begin(self, *words: str, within: tuple[str, ...] = (), alone: bool = False) -> subprocess.Popen[str]:
        """A command of chaosd; ``alone`` has it do without the daemon."""
        argv = [*within, sys.executable, "-m", "chaosd", *words]
        env = self.env | ({"CHAOSD_ALONE": "1"} if alone else {})
        return subprocess.Popen(
            argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def command(self, *words: str, within: tuple[str, ...] = (), alone: bool = False) -> tuple[int, str]:
        """The exit status of such a command, and all it said."""
        return ended(self.begin(*words, within=within, alone=alone))

    def journals(self) -> list[Path]:
        """Of runs that are not put back."""
        return list((self.folder / "run").glob("*.jsonl"))

    def family(self) -> list[int]:
        """Every process that began with our environment: the daemon, its children, their watchdogs."""
        mark, found = f"CHAOSD_RUN_DIR={self.folder / 'run'}".encode(), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(int(pid))
        return found

    def names(self) -> dict[str, int]:
        """What the processes of its family are called, as far as they live, and their pids."""
        found = {}
        for pid in self.family():
            with suppress(OSError):
                found[Path(f"/proc/{pid}/comm").read_text("utf-8").strip()] = pid
        return found

    def idle(self) -> bool:
        """Whether nobody is there but who always is, such as a child that has rehearsed, and its watchdog."""
        ahead = {"chaosd-zygote", "chaosd-ahead", "chaosd-watchdog"}
        return len(self.family()) == 4 and ahead < self.names().keys()

    def close(self) -> None:
        """Have it end, and see that all is put back and nothing of it is left, not even in its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0, self.log.read_text("utf-8")
        until(lambda: not self.family(), "processes are left", 60)
        assert not self.journals()
        assert "Traceback" not in self.log.read_text("utf-8"), self.log.read_text("utf-8")


@contextmanager
def daemon(config: str = "") -> Iterator[Daemon]:
    """A daemon in a folder that everybody may look into."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaosd-daemon-")))
        folder.chmod(0o755)
        made = Daemon(stack, folder, config)
        try:
            yield made
        finally:
            if made.process.poll() is None:
                made.process.send_signal(signal.SIGTERM)
                made.process.wait(60)
        made.close()


def as_user(uid: int, gid: int, do: Callable[[], Any]) -> Any:
    """What a function gives in a process of another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.write(writer, json.dumps(do()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)
