"""Writes docs/faults/, a page for each fault, from the faults' own classes.

python tools/fault_pages.py          write the pages
python tools/fault_pages.py --check  say which are out of date; exit status 1 if any is
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from msgspec.structs import replace

from chaosd.catalog import describe
from chaosd.direct import single
from chaosd.document import scalar
from chaosd.faults._network import NetworkFault
from chaosd.faults._syscall import SyscallFault
from chaosd.faults.base import Fault, registry
from chaosd.kernel.hooks import SECURITY_HOOKS
from chaosd.kernel.syscalls import GROUPS
from chaosd.scenario import library, load
from chaosd.units import Percent

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "faults"

SHARED: dict[str, Any] = {
    "ports": [1],
    "source_ports": [1],
    "cidrs": ["10.0.0.0/8"],
    "exclude": ["10.0.0.0/8"],
    "protocol": "udp",
    "direction": "ingress",
    "percent": Percent(50),
    "of": "flows",
    "budget": 1,
    "devices": ["eth0"],
}
"""The filters that network faults share, with a value by which it shows whether a fault takes one."""

NOTES = Path(__file__).parent / "notes"
"""What else a page says, in a file for each fault that needs it."""

EXAMPLES = {
    "clock.skew": "offset=-1h",
    "cpu.pin": "cpus=[0]",
    "dns.error": "kind=servfail names=[.example.com]",
    "network.connection_limit": "limit=10 window=60s ports=[5432]",
    "disk.fill": "path=/var/lib percent=95%",
    "disk.latency": "path=/var/lib/app delay=20ms",
    "disk.throttle": "path=/var/lib/app write=1MB/s write_iops=50",
    "container.kill": "signal=SIGTERM",
    "container.restart": "grace=5s",
    "network.corrupt": "percent=5%",
    "network.delay": "delay=100ms jitter=20ms ports=[5432]",
    "network.duplicate": "percent=5%",
    "network.loss": "percent=10% direction=both",
    "network.partition": "cidrs=[10.0.3.0/24]",
    "network.rate": "rate=1mbit",
    "network.refuse": "ports=[5432] percent=10%",
    "network.reset": "ports=[5432] every=10s",
    "process.pulse": "stopped=500ms running=1500ms",
    "probe.custom": "source=/etc/chaosd/probes/open_fails.c every=3",
    "process.kill": "signal=SIGTERM",
    "process.exec_fail": "path=/usr/bin/convert",
    "fd.exhaust": "after=100",
    "memory.alloc_fail": "probability=10%",
    "memory.leak": "step=10MiB every=1s",
    "syscall.delay": "syscalls=[fsync,fdatasync] delay=200ms jitter=50ms",
    "syscall.error": "syscalls=[files.write] errno=ENOSPC path=/var/lib/app",
}
"""Fields worth showing; a fault that is not here is shown with what it cannot do without."""

MECHANISMS = {
    "gate": "an eBPF program on the interface's clsact decides for each packet; nothing else is needed",
    "cgroup": "an eBPF program on the target's cgroup v2",
    "cgroup-v1": "control files of cgroup v1",
    "cgroup-v2": "control files of cgroup v2; of a systemd unit through systemd",
    "engine": "Docker or Podman is asked to",
    "freezer": "the cgroup's freezer",
    "signal": "a signal by pidfd, which no other process can get by mistake",
}

FILTERS = """\
## Which traffic is hit

Network faults take these filters, in any mix; a filter that is left out lets everything through. They are
applied by an eBPF program in the kernel, which looks ports and networks up in maps: naming many of them
costs a packet no more than naming one.

{table}

- **Near and far.** `ports`, `cidrs` and `exclude` are about the far end *as the target sees it*, whichever
  way a packet goes: `ports=[5432]` is the target's traffic with databases, `source_ports=[8000]` is what it
  serves itself.
- **Direction.** `egress` is what leaves the target. On `lo` every packet is met once, when it leaves, so
  that a delay counts once for a round trip there, too.
- **Percent of what.** Of `packets` each one is drawn by itself. Of `flows` a connection is either hit from
  its first packet to its last, or never. Draws come from the seed: the same seed draws the same.
- **Who.** For `container:`, `netns:` and whatever else has a network namespace of its own, all of the
  namespace's interfaces but `lo` are covered. A process that shares its namespace is told from its
  neighbors by tags on its sockets: those it has, those it will make or accept, and those of its children.
  `devices` narrows either down; an interface that is a slave of a bridge or bond is met at its master.
- **You.** When a whole interface, namespace or host is the target, the addresses that operators are logged
  in from by SSH are excluded.

## Connections

`network.reset` tears down what is established; `network.refuse` and `network.connection_limit` meet
connections that are about to be made.

- **Reset.** The kernel aborts the target's socket: its next call fails with `ECONNABORTED`, and the peer,
  which gets a TCP reset, sees `ECONNRESET`. Connections that are half closed are torn down, too; what no
  process has accepted yet is nobody's, and stays.
- **Limit.** A window begins with the first connection after the end of the last one; the first `limit` in
  it are let through, whatever becomes of them, and counted as skipped by "limit". `percent` and `budget`
  are of the others. Of dropped ones the caller's kernel sends
  the first packet again, after 1, 3, 7 ... seconds, and each time counts, so that it may get into the next
  window.

## Name servers

`dns.error` meets a question when it leaves the target, by the port of the far end.

- **Answers.** The question itself is turned into the answer and sent back, over IPv4 and IPv6; no name
  server is asked, and none need be there. Over TCP questions cannot be told before there is a connection:
  it is refused (for `timeout` lost), or with `names` let through.
- **Local resolvers.** Traffic on `lo` is met, also for whole namespaces, so that `127.0.0.53` of
  systemd-resolved counts. What it has in its cache is not asked for again, and questions that it forwards
  are its own, not the target's. Programs that ask it over D-Bus or its socket (nss-resolve) send no
  packets: aim at `unit:systemd-resolved` for these.
- **Docker.** In networks made by a user a container asks `127.0.0.11`, which its NAT leads to another port.
  It is found there. While `lo` has to take answers from it, two sysctls of the namespace are set
  (`route_localnet` and `accept_local` of `lo`).
"""

INDEX = """\
# Faults

One page for each, generated from the class that does it. `chaosd faults show NAME` prints the same.

{table}

"Cannot be undone" is said in the plan before anything happens. All other faults are put back when the run
ends, however it ends: see [what is guaranteed](../guarantees.md).

"""

PAGE = """\
# {name}

{doc}
{warning}
```console
# chaosd {command}
```

In a [scenario](../scenarios.md):

```yaml
faults:
  - {yaml}
```
{scenarios}
## Mechanisms

The first one that this host has is taken, unless `mechanism` names one. `chaosd doctor` tells which that
is, and what would mend the others.

{mechanisms}

## Fields

{own}
{shared}{notes}"""

CALLS = """\
## Which calls are hit

Faults on system calls take these fields, in any mix; what is left out lets every call through.

{table}

- **Calls and groups.** `syscalls` takes names of section 2 of the manual, as `strace` shows them, and the
  groups below.
- **How many.** Calls that pass the other fields are numbered from 0 over all processes and threads of the
  target. `after`, `first` and `every` choose by that number, then `probability` by a draw from the run's seed
  and the number, then `budget`. So the same seed fails the same numbers again, by every mechanism, and
  `budget` is kept to the call.
- **Paths** are absolute, as the target itself sees them (in a container, inside of it). A file or folder
  for itself and everything below; in a pattern `*` and `?` stay within a component, and `**` does not.
- **Sockets.** `ports` and `cidrs` are about the far end; of sockets that are bound, listen or accept, their
  own. Sockets of other families than IP have neither and are passed over.
- **Where it is met** is chosen for each call, best first; `chaosd plan` shows it. If turns or a budget are
  asked for and one call can only be met by tracing, tracing does all of them, for one counter must do.

{covered}

A call that is waiting already when the fault begins (`accept`, `read` of a pipe) is not met; the next one is.
Chaosd itself with its helpers, and what an operator started it from, is exempt in the kernel.

| group | its calls |
| --- | --- |
{groups}

Security modules are asked about: {security}.
"""

COVERED = (
    ("calls", "all", "see below", "socket, bind, connect; sends of datagrams to an address", "all", "all"),
    ("targets", "all", "all", "all", "what `chaosd exec` starts", "all but `host`"),
    ("`path`", "of descriptors", "of files, not of `kill`, `fork`, `brk`", "no", "all", "all"),
    ("an open that fails", "did nothing", "made the file, if it was to", "-", "did nothing", "did nothing"),
    ("threads, and children made later", "yes", "yes", "yes", "yes", "yes"),
    ("processes that join the cgroup (v2) later", "yes", "yes", "yes", "-", "no"),
    ("32-bit programs", "but for `socketcall(2)`", "but for `socketcall(2)`", "yes", "not tried", "yes"),
    ("what io_uring does", "no: it makes no call", "yes", "yes, of these", "no", "no"),
    ("what the vDSO answers, such as `clock_gettime`", "no", "no", "no", "no", "no"),
    ("slows", "the chosen calls", "the chosen calls", "the chosen calls", "the chosen calls", "every call"),
)
"""What each mechanism for system calls meets."""


def _calls_section() -> str:
    table = fields_table(describe(SyscallFault)["fields"], _of_calls())
    groups = "\n".join(f"| `{name}` | {', '.join(calls)} |" for name, calls in GROUPS.items())
    covered = grid(("", "override", "security", "cgroup", "notify", "ptrace"), COVERED)
    security = ", ".join(sorted(_asked()))
    return CALLS.format(table=table, groups=groups, covered=covered, security=security)


def _of_calls() -> list[str]:
    return [name for name in SyscallFault.__struct_fields__ if name in SyscallFault.__annotations__]


def _asked() -> set[str]:
    return {call for _, calls in SECURITY_HOOKS for call in calls}


def pages() -> dict[str, str]:
    """The text of every page by file name."""
    found = {f"{name}.md": page(kind) for name, kind in registry().items()}
    rows = [
        (f"[`{name}`]({name}.md)", describe(kind)["doc"], ", ".join(describe(kind)["mechanisms"]))
        for name, kind in registry().items()
    ]
    filters = fields_table(describe(NetworkFault)["fields"], [*SHARED])
    table = grid(("fault", "what it does", "mechanisms, best first"), rows)
    found["README.md"] = INDEX.format(table=table) + FILTERS.format(table=filters) + "\n" + _calls_section()
    return found


def page(kind: type[Fault]) -> str:
    """The page of one fault."""
    about = describe(kind)
    shown = example(kind)
    shared = issubclass(kind, (SyscallFault, NetworkFault))
    own = [
        name for name in about["fields"] if not shared or name in kind.__annotations__ or name == "mechanism"
    ]
    return PAGE.format(
        name=kind.name,
        doc=about["doc"],
        warning="\n**This cannot be undone.**\n"
        if about["irreversible"] and "undone" not in about["doc"]
        else "",
        command=_command(kind, shown),
        yaml=_yaml(kind.name, shown),
        scenarios=_scenarios(kind.name),
        mechanisms=grid(("mechanism", "what it is", "needs"), _mechanisms(about)),
        own=fields_table(about["fields"], own),
        shared=_shared(kind),
        notes=_notes(kind.name),
    )


def _notes(fault: str) -> str:
    path = NOTES / f"{fault}.md"
    return f"\n{path.read_text('utf-8')}" if path.exists() else ""


def _command(kind: type[Fault], shown: str) -> str:
    fault = f"{kind.name} {shown}".strip()
    if all(mechanism.launched for mechanism in kind.mechanisms):
        return f'exec --fault "{fault}" -- ./server --port 8000'
    of = "unit" if kind.irreversible and not kind.name.startswith("container.") else "container"
    return f"inject {fault} --target {of}:api --duration 30s"


def example(kind: type[Fault]) -> str:
    """Fields that make a valid fault, as ``chaosd inject`` takes them."""
    if kind.name in EXAMPLES:
        return EXAMPLES[kind.name]
    fields = describe(kind)["fields"]
    given = {name: _sample(kind, name) for name, field in fields.items() if field["required"]}
    if not given:
        # what a class cannot do without although no single field is required, it says itself
        given = {m[1]: m[2] for said in kind().check() if (m := re.search(r"such as (\w+): (\S+)", said))}
    return " ".join(f"{name}={value}" for name, value in given.items())


def _sample(kind: type[Fault], name: str) -> str:
    hint = get_type_hints(kind)[name]
    quantity = next((part for part in (hint, *get_args(hint)) if hasattr(part, "example")), None)
    return quantity.example if quantity else "1"


def _yaml(name: str, shown: str) -> str:
    if not shown:
        return name
    pairs = ", ".join(f"{key}: {value}" for key, _, value in (word.partition("=") for word in shown.split()))
    return f"{name}: {{{pairs}}}"


def _scenarios(fault: str) -> str:
    using = [
        f"[`{name}`](../../{path.relative_to(FOLDER.parents[1])})"
        for name, path in library().items()
        if fault in {step.fault.name for step in load(name, {}).faults}
    ]
    return f"\nScenarios that come with chaosd and use it: {', '.join(using)}.\n" if using else ""


def _mechanisms(about: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in about["mechanisms"]:
        needs = ", ".join(about["needs"][name]) or "nothing"
        yield f"`{name}`", about["notes"].get(name) or MECHANISMS.get(name, ""), needs


def fields_table(fields: dict[str, Any], names: list[str]) -> str:
    """The fields of a fault or check that have these names, as a table in Markdown."""
    rows = [
        (
            f"`{name}`",
            fields[name]["type"],
            "**required**" if fields[name]["required"] else fields[name]["default"],
            fields[name]["description"],
        )
        for name in names
    ]
    return grid(("field", "type", "default", "meaning"), rows)


def _shared(kind: type[Fault]) -> str:
    if issubclass(kind, SyscallFault):
        return (
            "\nAnd these, explained under [which calls are hit](README.md#which-calls-are-hit):\n"
            f"{', '.join(f'`{name}`' for name in _of_calls())}.\n"
        )
    if not issubclass(kind, NetworkFault):
        return ""
    fields = dict(word.split("=", 1) for word in example(kind).split())
    fault = single(kind.name, {key: scalar(text) for key, text in fields.items()}, "host", "1s", None)
    names = [name for name in SHARED if name not in kind.__annotations__]
    taken = [
        f"`{name}`" for name in names if not replace(fault.faults[0].fault, **{name: SHARED[name]}).check()
    ]
    return (
        "\nAnd these filters, explained under [which traffic is hit](README.md#which-traffic-is-hit):\n"
        f"{', '.join(taken)}.\n"
    )


def grid(head: tuple[str, ...], rows: Any) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "\n".join(f"| {line} |" for line in cells)


def stale() -> list[str]:
    """The names of the files in docs/faults/ that differ from what would be written."""
    wanted = pages()
    there = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main() -> int:
    """Write or check; the exit status."""
    if "--check" in sys.argv[1:]:
        for name in stale():
            sys.stdout.write(f"docs/faults/{name} is out of date: python tools/fault_pages.py\n")
        return 1 if stale() else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale():
        path = FOLDER / name
        if name in pages():
            path.write_text(pages()[name], "utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"{path.relative_to(FOLDER.parents[1])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
