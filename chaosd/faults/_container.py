"""What the faults on containers share."""

from __future__ import annotations

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.kernel.process import ProcessRef
from chaosd.kernel.restart import Restart, running
from chaosd.targets.model import Target


def first(target: Target, fault: str) -> ProcessRef:
    """The first process of a container, with which all others end.

    Raises:
        UnsupportedError: the target is not a container.
        ChaosdError: it has ended.
    """
    if not target.spec.startswith("container:"):
        raise UnsupportedError(
            f"{fault} is about containers, and {target.spec} is none", hint="container:api"
        )
    process = target.require_processes()[0]
    if not process.alive():
        raise ChaosdError(f"{target.spec} has ended", hint="start it first")
    return process


def recovery(target: Target) -> list[Restart]:
    """The promise that a container which is up now will be up at the end."""
    return [Restart(target.manager)] if running(target.manager) else []
