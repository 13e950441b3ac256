"""What a host looks like, read by other programs than chaosd: ip, tc, bpftool, sysctl and /proc."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chaosd.kernel.netns import NetnsRef

_VOLATILE = {
    "stats", "stats64", "backlog", "bytes", "packets", "drops", "overlimits", "requeues", "qlen",
    "valid_life_time", "preferred_life_time", "num_tx_queues", "bytes_memlock", "gc_timer", "hello_timer",
}  # fmt: skip
_OF_BPFTOOL = ("iterator.rodata", "pid_iter.rodata", "libbpf_global", "libbpf_det_bind")


def _run(*argv: str, ns: NetnsRef | None = None) -> str:
    enter = ["nsenter", f"--net={ns.path}"] if ns else []
    done = subprocess.run([*enter, *argv], capture_output=True, text=True, check=False)
    return done.stdout + (f"exit {done.returncode}: {done.stderr}" if done.returncode else "")


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _still(item) for key, item in value.items() if key not in _VOLATILE}
    return [_still(item) for item in value] if isinstance(value, list) else value


def _json(*argv: str, ns: NetnsRef | None = None) -> str:
    text = _run(*argv, ns=ns)
    return json.dumps(_still(json.loads(text or "[]")), indent=1, sort_keys=True)


def network(ns: NetnsRef) -> dict[str, str]:
    """Links, addresses, rules, qdiscs, classes, filters and net sysctls of a namespace."""
    found = {
        "links": _json("ip", "-j", "-d", "addr", ns=ns),
        "qdiscs": _json("tc", "-j", "-d", "qdisc", "show", ns=ns),
        "routes": _run("ip", "route", "show", "table", "all", ns=ns),
        "sysctl": "\n".join(
            line
            for line in _run("sysctl", "-a", "-r", r"^net\.", ns=ns).splitlines()
            if not re.search(r"conntrack_count|\.retrans_|kernel\.random", line)
        ),
    }
    for link in json.loads(_run("ip", "-j", "link", ns=ns) or "[]"):
        name = link["ifname"]
        for where in ("ingress", "egress", "root"):
            found[f"filters {name} {where}"] = _run("tc", "filter", "show", "dev", name, where, ns=ns)
        found[f"classes {name}"] = _run("tc", "class", "show", "dev", name, ns=ns)
    return found


def bpf() -> dict[str, str]:
    """Programs, maps and links that are loaded, without the ones bpftool itself loads to look."""
    found = {}
    for kind in ("prog", "map", "link"):
        items = json.loads(_run("bpftool", "-j", kind, "show") or "[]")
        keep = [
            {key: item.get(key) for key in ("type", "name", "attach_type", "cgroup_id")}
            for item in items
            if item.get("name") not in _OF_BPFTOOL
        ]
        found[f"bpf {kind}"] = json.dumps(sorted(keep, key=str), indent=1)
    return found


def cgroups(pids: Iterable[int]) -> dict[str, str]:
    """In every hierarchy the cgroups of our name, and those right below the ones of these processes.

    Others come and go by themselves: sessions, services, containers.
    """
    found = {}
    for mount, folders in _cgroups_of(pids).items():
        marked = [folder for folder, _, _ in os.walk(mount) if Path(folder).name.startswith("chaosd")]
        below = [entry.path for folder in folders for entry in os.scandir(folder) if entry.is_dir()]
        found[f"cgroups {mount}"] = "\n".join(sorted({*marked, *below}))
    return found


def _cgroups_of(pids: Iterable[int]) -> dict[str, set[str]]:
    """The folders of some processes by the mount of their hierarchy."""
    found: dict[str, set[str]] = {}
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        mount, kind = line.split()[1:3]
        if kind in ("cgroup", "cgroup2"):
            found[mount] = set()
    for pid in pids:
        for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
            controllers, path = line.split(":")[1:]
            names = controllers.removeprefix("name=").split(",") if controllers else ["unified", "cgroup"]
            for mount in found:
                if mount.rpartition("/")[2] in names:
                    found[mount].add(f"{mount}{path}".rstrip("/"))
    return found


def process(pid: int) -> dict[str, str]:
    """Where a process is, whether it is stopped, and every setting of its cgroups."""
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    places = Path(f"/proc/{pid}/cgroup").read_text("utf-8")
    found = {f"{pid} stopped": str(stat[0] in "Tt"), f"{pid} cgroups": places}
    found[f"{pid} affinity"] = str(os.sched_getaffinity(pid))
    for folders in _cgroups_of([pid]).values():
        for folder in folders:
            found |= _settings(folder)
    return found


def _settings(folder: str) -> dict[str, str]:
    wanted = ("max", "high", "low", "min", "weight", "quota_us", "period_us", "cpus", "mems", "type",
              "limit_in_bytes", "freeze", "state", "subtree_control", "shares", "oom_control")  # fmt: skip
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(wanted):
            try:
                text = Path(folder, name).read_text("utf-8")
            except OSError:
                continue
            found[f"{folder}/{name}"] = text.partition("under_oom")[0]
    return found


def helpers() -> dict[str, str]:
    """Processes of chaosd that are alive."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            comm = Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
        except OSError:
            continue
        if (
            "from chaosd.kernel." in command  # chaosd.kernel.helper
            or "probe_process" in command
            or "chaosd.cli" in command
            or comm == "chaosd-watchdog"
        ):
            found.append(f"{comm}: {command}")
    return {"chaosd processes": "\n".join(found)}


def host(namespaces: Iterable[NetnsRef], pids: Iterable[int]) -> dict[str, str]:
    """Everything above, by name."""
    pids = list(pids)
    found = bpf() | cgroups(pids) | helpers()
    for i, ns in enumerate(namespaces):
        found |= {f"netns {i} {key}": text for key, text in network(ns).items()}
    for pid in pids:
        found |= process(pid)
    return found
