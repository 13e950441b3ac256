"""``unit:NAME`` as a target: the cgroup that systemd keeps for it."""

from __future__ import annotations

import os
import re
import subprocess

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.targets import cgroups
from chaosd.targets.build import suggest
from chaosd.targets.model import Target
from chaosd.targets.processes import snapshot

_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}\Z")  # systemd.unit(5)
_FIELDS = ("Id", "LoadState", "ActiveState", "ControlGroup", "MainPID")


def resolve(word: str) -> Target:
    """The target of ``unit:WORD``; the suffix ``.service`` may be left out.

    Raises:
        ChaosdError: no such unit, or it has no cgroup now.
        UnsupportedError: systemd does not run this host.
    """
    if not _NAME.match(word):
        raise ChaosdError(f"{word!r} is not the name of a unit", hint="such as unit:nginx.service")
    told = fields(_systemctl("show", "--property", ",".join(_FIELDS), "--", word))
    name = told.get("Id", word)
    if told.get("LoadState") == "not-found":
        raise ChaosdError(f"systemd has no unit {name}", hint=_near(name))
    path = told.get("ControlGroup", "")
    if not path:
        state = told.get("ActiveState", "unknown")
        hint = f"systemctl start {name}" if state != "active" else "name a unit that stays up"
        raise ChaosdError(f"unit {name} has no processes: it is {state}", hint=hint)
    main = told.get("MainPID", "0")
    return cgroups.of(cgroups.find(path), snapshot(), f"unit:{name}", int(main) if main.isdigit() else 0)


def fields(text: str) -> dict[str, str]:
    """The properties that ``systemctl show`` printed, ``Name=value`` on each line."""
    parts = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in parts}


def _near(name: str) -> str:
    lines = _systemctl("list-units", "--plain", "--no-legend", "--no-pager").splitlines()
    known = [line.split()[0] for line in lines if line.strip()]
    return suggest(name, known, "unit:", "see: systemctl list-units")


def _systemctl(*words: str) -> str:
    # sd_booted(3): the directory is there only where systemd is the init of this boot
    if not os.path.isdir("/run/systemd/system"):
        raise UnsupportedError("systemd does not run this host", hint="name it by cgroup:, comm: or pid:")
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        raise UnsupportedError("systemctl is not installed", hint="name it by cgroup: or pid:") from None
    except subprocess.TimeoutExpired:
        raise ChaosdError("systemd did not answer in 10 s", hint="see: systemctl status") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise ChaosdError(f"systemctl {words[0]} failed: {said}", hint="see: systemctl status")
    return done.stdout
