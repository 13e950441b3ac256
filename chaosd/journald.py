"""Structured entries for the journal of systemd, in its native protocol; nothing happens where it is not.

The protocol is a datagram of fields, stable and documented (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
It is spoken here rather than through systemd-python, which is built from C against libsystemd. A sender never
waits: what the journal has no room for at that moment is lost, and the run goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

SOCKET = "/run/systemd/journal/socket"
"""Where journald listens (systemd-journald.socket(8))."""
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)  # for one datagram: net.core.wmem_max
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def send(fields: Mapping[str, str | float]) -> None:
    """Write one entry; returns at once, and raises nothing whether it was taken or not.

    Args:
        fields: values by names of capitals, digits and ``_`` (systemd.journal-fields(7)).
    """
    text = b"".join(_field(name, str(value)) for name, value in fields.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.setblocking(False)
        end.connect(SOCKET)
        try:
            end.send(text)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            _send_sealed(end, text)


def _field(name: str, value: str) -> bytes:
    raw = value.encode(errors="replace")
    if b"\n" not in raw:
        return name.encode() + b"=" + raw + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"


def _send_sealed(end: socket.socket, text: bytes) -> None:
    """Hand it over in a memory file that nobody can change any more."""
    file = os.memfd_create("chaosd-event", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(text)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(end, [b""], [file])
    finally:
        os.close(file)
