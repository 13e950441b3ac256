"""Words for shell completion; anything that goes wrong completes to nothing."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem


def scenario(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Names of scenarios, and files."""
    from chaosd.scenario import library

    names = [CompletionItem(name) for name in library() if name.startswith(word)]
    return names or [CompletionItem(word, type="file")]


def suite(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Categories of scenarios, and files."""
    from chaosd.scenario import library

    names = {"all", *(path.parent.name for path in library().values())}
    found = [CompletionItem(name) for name in sorted(names) if name.startswith(word)]
    return found or [CompletionItem(word, type="file")]


def run(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Ids of runs, the newest first, and files."""
    from chaosd.errors import ChaosdError
    from chaosd.report.store import journals

    try:
        names = [CompletionItem(path.stem) for path in journals() if path.stem.startswith(word)]
    except ChaosdError:
        names = []
    return names or [CompletionItem(word, type="file")]


def fault(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Names of faults."""
    from chaosd.faults.base import registry

    return [CompletionItem(name) for name in registry() if name.startswith(word)]


def check(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Kinds of checks."""
    from chaosd.checks.base import registry

    return [CompletionItem(name) for name in registry() if name.startswith(word)]


def field(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """``KEY=`` for every field of the fault named before."""
    from chaosd.faults.base import registry

    kind = registry().get(ctx.params.get("fault", ""))
    names = kind.__struct_fields__ if kind else ()
    return [CompletionItem(f"{name}=") for name in names if name.startswith(word)]


def target(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """The kinds of target, and where it is cheap the targets themselves."""
    kind, colon, rest = word.partition(":")
    if not colon:
        kinds = ("pid:", "comm:", "cgroup:", "unit:", "container:", "dev:", "netns:", "host")
        return [CompletionItem(k) for k in kinds if k.startswith(word)]
    if kind == "container":
        return [CompletionItem(f"container:{name}") for name in _containers(rest)]
    places = {"dev": "/sys/class/net", "netns": "/run/netns"}
    names = os.listdir(places[kind]) if kind in places and os.path.isdir(places[kind]) else []
    if kind == "pid":
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    return [CompletionItem(f"{kind}:{name}") for name in names if f"{kind}:{name}".startswith(word)]


def _containers(word: str) -> list[str]:
    """Names of those that run, or what they can be chosen by."""
    from chaosd.errors import ChaosdError
    from chaosd.targets.docker import listed
    from chaosd.targets.selector import EXAMPLES

    kind, equals, _ = word.partition("=")
    try:
        found = [each for each in listed() if each.up]
    except ChaosdError:
        found = []
    if equals:
        names = {f"{kind}={value}" for each in found for value in each.values(kind)}
    else:
        names = {*(each.name for each in found), *(f"{kind}=" for kind in EXAMPLES)}
    return sorted(name for name in names if name.startswith(word))
