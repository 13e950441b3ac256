"""From the word a user writes, such as ``container:api``, to a target held by identity."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

import msgspec

from chaosd.errors import ChaosdError
from chaosd.kernel import launch
from chaosd.kernel.netns import NetnsRef
from chaosd.targets import cgroups, docker, network, units
from chaosd.targets.build import gather, leader, suggest
from chaosd.targets.model import Life, Target
from chaosd.targets.processes import Seen, snapshot, tree
from chaosd.targets.protect import is_chaosd

KINDS: dict[str, str] = {
    "pid": "pid:1234",
    "comm": "comm:nginx",
    "cgroup": "cgroup:/system.slice/nginx.service",
    "unit": "unit:nginx.service",
    "container": "container:api",
    "dev": "dev:eth0",
    "netns": "netns:blue",
    "host": "host",
}
"""The kinds of target, each with a word to show how it is written."""
_COMM_LENGTH = 15  # TASK_COMM_LEN less its NUL, include/linux/sched.h


def resolve(spec: str) -> Target:
    """Find the one target that a word stands for now; see ``resolve_all``.

    Raises:
        ChaosdError: as there, and when there are several.
    """
    found = resolve_all(spec)
    if len(found) > 1:
        names = ", ".join(target.spec for target in found)
        raise ChaosdError(f"{spec} stands for {len(found)} targets", hint=f"name one of {names}")
    return found[0]


def resolve_all(spec: str) -> list[Target]:
    """Find what a word stands for now: one target, or several containers.

    ``pid:`` takes the process and its children, ``comm:`` every process of that name but chaosd's
    own, ``cgroup:`` everything below, ``dev:NAME@NETNS`` an interface of another namespace, where
    NETNS is written as for ``netns:`` (a name of ip-netns(8), a path or a pid) or is itself a word
    such as ``container:api``. A container is named, or chosen with all others of a label, a compose
    service or project, or an image; each is a target of its own then.

    Raises:
        ChaosdError: no such kind of word, or nothing there that the word stands for.
        UnsupportedError: what would know is not here: systemd, a container engine, its package.
    """
    kind, colon, rest = spec.partition(":")
    if not spec.isprintable() or kind not in KINDS or bool(colon) == (kind == "host"):
        raise _malformed(spec)
    if not rest.strip() and kind != "host":
        raise ChaosdError(f"target {spec!r} names nothing", hint=f"such as {KINDS[kind]}")
    try:
        found = docker.resolve(rest) if kind == "container" else [_RESOLVERS[kind](rest)]
    except (FileNotFoundError, ProcessLookupError):
        raise ChaosdError(f"{spec} ended while it was looked at", hint="try again") from None
    except PermissionError as error:
        raise ChaosdError(f"{spec} is closed to us: {error.strerror}", hint="run chaosd as root") from None
    except OSError as error:
        raise ChaosdError(f"{spec} cannot be looked at: {error.strerror}") from None
    if not found:
        raise ChaosdError(f"{spec} ended while it was looked at", hint="try again")
    return [msgspec.structs.replace(target, spec=target.spec or spec, word=spec) for target in found]


def _malformed(spec: str) -> ChaosdError:
    kind = spec.partition(":")[0]
    near = get_close_matches(kind.lower(), KINDS, n=1)
    if kind == "host":
        hint = "write host alone"
    elif near:
        hint = f"did you mean {near[0]}:, such as {KINDS[near[0]]}?"
    elif spec.isascii() and spec.isdigit():
        hint = f"did you mean pid:{spec}?"
    else:
        hint = f"one of {', '.join(KINDS.values())}"
    return ChaosdError(f"{spec!r} is not a target", hint=hint)


def _pid(word: str) -> Target:
    table = snapshot()
    first = leader(word, table)
    started = launch.current()
    # what chaosd has started itself may end: that is how such a run does
    life = Life.NONE if started is not None and started.process == first.ref else Life.LEADER
    return gather(tree(first.pid, table), table, life)


def _comm(word: str) -> Target:
    table = snapshot()
    name = word.encode()[:_COMM_LENGTH].decode(errors="replace")
    others = [seen for seen in table.values() if not is_chaosd(seen)]
    found = [seen for seen in others if seen.comm == name]
    if not found:
        hint = suggest(name, (seen.comm for seen in others), "comm:", "see: ps -eo comm")
        raise ChaosdError(f"no process is called {word!r}", hint=hint)
    return gather(sorted(found, key=_age), table, Life.ANY)


def _age(seen: Seen) -> tuple[int, int]:
    return seen.start_time, seen.pid


def _host(_: str) -> Target:
    return Target("", netns=NetnsRef.own(), own_netns=True, life=Life.NONE)


def _dev(word: str) -> Target:
    name, _, where = word.partition("@")
    if not where:
        return network.device(name, NetnsRef.own())
    if ":" not in where or where.startswith("/"):
        return network.device(name, network.namespace(where))
    netns = resolve(where).netns
    if netns is None:
        raise ChaosdError(f"{where} is in several network namespaces", hint="name one: dev:NAME@PID")
    return network.device(name, netns)


_RESOLVERS: dict[str, Callable[[str], Target]] = {
    "pid": _pid,
    "comm": _comm,
    "cgroup": cgroups.resolve,
    "unit": units.resolve,
    "dev": _dev,
    "netns": network.resolve,
    "host": _host,
}
