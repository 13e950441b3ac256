"""``container:NAME_OR_ID`` as a target, asked of Docker or of Podman's service of the same form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel import cgroup
from chaosd.kernel.cgroup import CgroupRef
from chaosd.targets.build import gather, suggest
from chaosd.targets.model import Life, Target
from chaosd.targets.processes import Seen, snapshot

if TYPE_CHECKING:
    from docker import DockerClient

SOCKETS = ("/run/docker.sock", "/run/podman/podman.sock")
"""Where an engine is looked for when DOCKER_HOST does not say."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")  # what the engines allow
_PATIENCE = 10


def resolve(word: str) -> Target:
    """The target of ``container:WORD``: a name, an id, or the beginning of an id.

    It lives by its first process, whose pid is another after a restart. Nothing but this look-up
    asks the engine, so that an engine that is itself in trouble cannot hold up a revert.

    Raises:
        ChaosdError: no such container, several, or it does not run.
        UnsupportedError: no engine is here, or the docker package is not.
    """
    if not _NAME.match(word):
        raise ChaosdError(f"{word!r} is not the name of a container", hint="such as container:api")
    found = _inspect(word)
    ident, pid, state = str(found["Id"]), int(found["State"]["Pid"]), str(found["State"]["Status"])
    name = str(found["Name"]).lstrip("/")
    if pid == 0:
        raise ChaosdError(f"container {name} is not running: {state}", hint=f"docker start {name}")
    table = snapshot()
    cgroups = _cgroups(pid, ident)
    if not cgroups or pid not in table:
        raise ChaosdError(
            f"container {name} does not run on this host: pid {pid} here is not in its cgroup",
            hint="run chaosd on the engine's host, and not in a container",
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


def _endpoints() -> list[str]:
    told = os.environ.get("DOCKER_HOST", "")
    if told:
        return [told]
    return [f"unix://{path}" for path in SOCKETS if os.path.exists(path)]


def _inspect(word: str) -> dict[str, Any]:
    endpoints = _endpoints()
    if not endpoints:
        raise UnsupportedError(
            f"no container engine is running: no {' and no '.join(SOCKETS)}",
            hint="start it, or set DOCKER_HOST",
        )
    answers = [_ask(endpoint, word) for endpoint in endpoints]
    found = {answer["Id"]: answer for answer in answers if "Id" in answer}
    if len(found) > 1:
        raise ChaosdError(f"Docker and Podman both have a container {word!r}", hint="set DOCKER_HOST")
    if not found:
        names = [name for answer in answers for name in answer["known"]]
        hint = suggest(word, names, "container:", "see: docker ps -a")
        raise ChaosdError(f"there is no container {word!r}", hint=hint)
    return next(iter(found.values()))


def _ask(endpoint: str, word: str) -> dict[str, Any]:
    try:
        from docker.errors import NotFound
    except ImportError:
        raise UnsupportedError(
            "container: needs the docker package", hint="pip install 'chaosd[docker]'"
        ) from None
    with _engine(endpoint) as client:
        try:
            answer: dict[str, Any] = client.api.inspect_container(word)
        except NotFound:
            every = client.api.containers(all=True)
            return {"known": [name.lstrip("/") for one in every for name in one["Names"]]}
    return answer


@contextmanager
def _engine(endpoint: str) -> Iterator[DockerClient]:
    import docker
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    environment = {**os.environ, "DOCKER_HOST": endpoint}
    client: DockerClient | None = None
    try:
        client = docker.from_env(environment=environment, timeout=_PATIENCE)
        yield client
    except APIError as error:
        said = _first_line(error.explanation or str(error))
        raise ChaosdError(
            f"the engine at {endpoint} refused: {said}", hint="give the full name or id"
        ) from None
    except (DockerException, RequestException, OSError, ValueError) as error:
        said = _first_line(str(error) or type(error).__name__)
        raise UnsupportedError(
            f"the container engine at {endpoint} does not answer: {said}", hint="see: docker info"
        ) from None
    finally:
        if client is not None:
            client.close()


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0][:160]
