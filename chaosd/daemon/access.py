"""Who is at the other end of a connection, and what they may do."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
from typing import Any, Literal

import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from chaosd.daemon.config import Config

Role = Literal["", "read", "act"]

_CREDENTIALS = struct.Struct("=3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


class Peer(msgspec.Struct, frozen=True):
    """A client: its process and user, as the kernel says."""

    pid: int
    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name, or the number where there is none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def groups(self) -> set[int]:
        """The groups of the user as of now, so that a new member need not log in again."""
        try:
            return {self.gid, *os.getgrouplist(pwd.getpwuid(self.uid).pw_name, self.gid)}
        except KeyError:
            return {self.gid}


class Protocol(H11Protocol):
    """HTTP that notes who the client is, as the ``client`` of every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel for the peer's credentials."""
        super().connection_made(transport)
        end = transport.get_extra_info("socket")
        if end is not None and end.family == socket.AF_UNIX:
            raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            self.client = ("{}:{}:{}".format(*_CREDENTIALS.unpack(raw)), 0)


def peer_of(scope: Any) -> Peer | None:
    """The client of a request on the Unix socket; None for one that came by TCP."""
    host = (scope.get("client") or ("",))[0]
    parts = host.split(":")
    return Peer(*map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else None


def role_of(peer: Peer | None, config: Config) -> Role:
    """What a client may do: act, look, or nothing.

    Who came by TCP has shown a certificate of the configured authority, and may act.
    """
    if peer is None or peer.uid == 0:
        return "act"
    try:
        wanted = grp.getgrnam(config.group).gr_gid
    except KeyError:
        wanted = -1
    if wanted in peer.groups():
        return "act"
    return "read" if config.readers == "everybody" else ""
