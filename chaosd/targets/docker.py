"""``container:`` as a target, asked of Docker or of Podman's service of the same form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from chaosd.errors import ChaosdError
from chaosd.kernel import cgroup, containers
from chaosd.kernel.cgroup import CgroupRef
from chaosd.targets.build import gather, suggest
from chaosd.targets.model import Life, Target
from chaosd.targets.processes import Seen, snapshot
from chaosd.targets.selector import Listed, choose

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")  # what the engines allow


def resolve(word: str) -> list[Target]:
    """The targets of ``container:WORD``: a name, an id or its beginning; or ``KIND=VALUE``, see ``choose``.

    Each lives by its first process, whose pid is another after a restart. Nothing but this look-up
    asks the engine, so that an engine that is itself in trouble cannot hold up a revert.

    Raises:
        ChaosdError: no such container, several of one name or id, or it does not run.
        UnsupportedError: no engine is here, or the docker package is not.
    """
    kind, equals, value = word.partition("=")
    if equals:
        return _chosen(kind, value)
    if not _NAME.match(word):
        raise ChaosdError(f"{word!r} is not the name of a container", hint="such as container:api")
    return [_target(_inspect(word))]


def listed() -> dict[Listed, str]:
    """Every container, with the endpoint of its engine.

    Raises:
        ChaosdError: as for ``resolve``.
    """
    found: dict[Listed, str] = {}
    for endpoint in containers.endpoints():
        with containers.engine(endpoint) as client:
            found |= {Listed.of(item): endpoint for item in client.api.containers(all=True)}
    return found


def _chosen(kind: str, value: str) -> list[Target]:
    found = listed()
    answers = [(each.name, _ask(found[each], each.id)) for each in choose(kind, value, found)]
    return [replace(_target(answer), spec=f"container:{name}") for name, answer in answers if answer.found]


def _target(answer: _Answer) -> Target:
    found = answer.found
    ident, pid, state = str(found["Id"]), int(found["State"]["Pid"]), str(found["State"]["Status"])
    name = str(found["Name"]).lstrip("/")
    if pid == 0:
        raise ChaosdError(f"container {name} is not running: {state}", hint=f"{answer.command} start {name}")
    table = snapshot()
    cgroups = _cgroups(pid, ident)
    if not cgroups or pid not in table:
        raise ChaosdError(
            f"container {name} does not run on this host: pid {pid} here is not in its cgroup",
            hint="run chaosd on the engine's host, or in a container that has its pid namespace",
        )
    return gather(_processes(pid, cgroups, table), table, Life.LEADER, cgroups, f"container:{ident}")


def _processes(pid: int, cgroups: Mapping[str, CgroupRef], table: Mapping[int, Seen]) -> list[Seen]:
    pids = dict.fromkeys([pid, *(other for ref in cgroups.values() for other in cgroup.members(ref.path))])
    return [table[other] for other in pids if other in table]


def _cgroups(pid: int, ident: str) -> dict[str, CgroupRef]:
    try:
        places = cgroup.of_process(pid)
    except ProcessLookupError:
        return {}
    # below its own cgroup a container may have made others, such as crun's "container"
    cuts = {key: re.match(rf".*?/[^/]*{re.escape(ident)}[^/]*", path) for key, path in places.items()}
    return {key: CgroupRef.at(cut[0]) for key, cut in cuts.items() if cut is not None}


class _Answer(NamedTuple):
    command: str
    found: dict[str, Any]  # empty when the engine has no such container
    known: list[str]


def _inspect(word: str) -> _Answer:
    answers = [_ask(endpoint, word) for endpoint in containers.endpoints()]
    found = {answer.found["Id"]: answer for answer in answers if answer.found}
    if len(found) > 1:
        raise ChaosdError(f"Docker and Podman both have a container {word!r}", hint="set DOCKER_HOST")
    if not found:
        names = [name for answer in answers for name in answer.known]
        hint = suggest(word, names, "container:", f"see: {answers[0].command} ps -a")
        raise ChaosdError(f"there is no container {word!r}", hint=hint)
    return next(iter(found.values()))


def _ask(endpoint: str, word: str) -> _Answer:
    with containers.engine(endpoint) as client:
        from docker.errors import APIError, NotFound

        try:
            return _Answer(containers.command(client), client.api.inspect_container(word), [])
        except APIError as error:
            every = client.api.containers(all=True)
            if sum(one["Id"].startswith(word) for one in every) > 1:
                raise ChaosdError(
                    f"the ids of several containers begin with {word!r}", hint="give the full name or id"
                ) from None
            if not isinstance(error, NotFound):
                raise
        names = [name.lstrip("/") for one in every for name in one["Names"]]
        return _Answer(containers.command(client), {}, names)
