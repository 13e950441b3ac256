"""Docker, and Podman's service of the same form, wherever either listens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chaosd.errors import ChaosdError, UnsupportedError

if TYPE_CHECKING:
    from docker import DockerClient

SOCKETS = ("/run/docker.sock", "/run/podman/podman.sock")
"""Where an engine is looked for when DOCKER_HOST does not say."""
_PATIENCE = 10


def endpoints() -> list[str]:
    """Where engines listen (``UnsupportedError`` when there are none)."""
    told = os.environ.get("DOCKER_HOST", "")
    found = [told] if told else [f"unix://{path}" for path in SOCKETS if os.path.exists(path)]
    if not found:
        raise UnsupportedError(
            f"no container engine is running: no {' and no '.join(SOCKETS)}",
            hint="start it, or set DOCKER_HOST",
        )
    return found


@contextmanager
def engine(endpoint: str) -> Iterator[DockerClient]:
    """A client of an engine; what goes wrong with it inside the block is told in one line.

    Raises:
        ChaosdError: the engine refused.
        UnsupportedError: it does not answer, or the docker package is not here.
    """
    try:
        import docker
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException
    except ImportError:
        raise UnsupportedError(
            "container: needs the docker package", hint="pip install 'chaosd[docker]'"
        ) from None
    client: DockerClient | None = None
    try:
        client = docker.from_env(environment={**os.environ, "DOCKER_HOST": endpoint}, timeout=_PATIENCE)
        yield client
    except APIError as error:
        said = _first_line(error.explanation or str(error))
        raise ChaosdError(f"the engine at {endpoint} refused: {said}") from None
    except (DockerException, RequestException, OSError, ValueError) as error:
        said = _first_line(str(error) or type(error).__name__)
        raise UnsupportedError(
            f"the container engine at {endpoint} does not answer: {said}", hint="is it running?"
        ) from None
    finally:
        if client is not None:
            client.close()


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0][:160]


def command(client: DockerClient) -> str:
    """What is typed to speak to this engine: ``podman`` or ``docker``."""
    parts = client.version().get("Components") or ()
    return "podman" if any(part["Name"] == "Podman Engine" for part in parts) else "docker"
