"""What the daemon may do for whom: ``/etc/chaosd/daemon.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chaosd import document
from chaosd.checks.http import Url
from chaosd.document import Problems
from chaosd.errors import ChaosdError
from chaosd.events import Kind

PATH = Path("/etc/chaosd/daemon.yaml")
"""Where it is unless ``chaosd daemon --config`` says otherwise."""


class Tcp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The API on a TCP port, for clients with a certificate of one authority alone; they may act."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 7878
    certificate: Annotated[str, Meta(description="PEM file of the daemon's own")]
    key: Annotated[str, Meta(description="PEM file of its key")]
    authority: Annotated[str, Meta(description="PEM file that client certificates are checked against")]


class Metrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``/metrics``, and nothing else, on a TCP port for whoever can reach it."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 9469


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that is told of events."""

    url: Annotated[Url, Meta(description="where to post them")]
    events: Annotated[list[Kind], Meta(description="those that are wanted; all if none is named")] = []
    secret: Annotated[str, Meta(description="file with what they are signed with")] = ""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's configuration; every field has a default that is safe."""

    socket: Annotated[str, Meta(description="the API's Unix socket")] = "/run/chaosd/api.sock"
    group: Annotated[str, Meta(description="whose members may act, besides root")] = "chaosd"
    readers: Annotated[Literal["nobody", "everybody"], Meta(description="who else may look")] = "nobody"
    allow: Annotated[
        list[str],
        Meta(
            description="what clients' scenarios may use: commands of checks, sources of probes, and files "
            "that checks read"
        ),
    ] = []
    monkey: Annotated[str, Meta(description="file of a monkey's configuration, by which it acts")] = ""
    tcp: Annotated[Tcp | None, Meta(description="also listen there, with mutual TLS")] = None
    metrics: Annotated[Metrics | None, Meta(description="serve metrics on a port of their own, too")] = None
    webhook: Annotated[Webhook | None, Meta(description="where events are posted")] = None


_PARTS = {"tcp": Tcp, "metrics": Metrics, "webhook": Webhook}


def read(path: Path) -> Config:
    """The configuration in a file, or the defaults where there is none.

    Raises:
        ChaosdError: everything that is wrong in it, one line each, with file and line.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosdError(f"{path}: cannot be read: {error}") from None
    data, lines = document.load(text, str(path))
    problems = Problems(str(path), lines)
    given = {key: data.pop(key, None) for key in _PARTS} if isinstance(data, dict) else {}
    config = document.build(Config, data or {}, (), problems)
    parts: dict[str, Any] = {
        key: document.build(_PARTS[key], value, (key,), problems)
        for key, value in given.items()
        if value is not None
    }
    problems.raise_any()
    assert config is not None
    return msgspec.structs.replace(config, **parts)
