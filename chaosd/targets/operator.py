"""By which connections the operators of this host are logged in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from chaosd.kernel.process import read
from chaosd.targets.processes import Seen, ancestors, snapshot

_SSHD = ("sshd", "sshd-session", "dropbear")
_ESTABLISHED = "01"  # TCP_ESTABLISHED, include/net/tcp_states.h
_VARIABLES = ("SSH_CONNECTION=", "SSH_CLIENT=")  # sshd(8): the peer's address comes first


def operator_addresses() -> tuple[str, ...]:
    """The peer addresses of the operators' connections, which network faults leave alone.

    They are read from the environment of this process and of its parents (sudo clears its own),
    and from the established sockets of every sshd: a session taken up again in a terminal
    multiplexer still has the environment of the first login. Of other people's sessions those
    from loopback are left out, or a tunnel would keep all of ``lo`` from being tested.

    Errors are none: what cannot be read names nobody.
    """
    table = snapshot()
    chain = [seen for pid in [os.getpid()] if pid in table for seen in [table[pid], *ancestors(pid, table)]]
    mine = {peer for seen in chain for peer in (*_told(seen.pid), *_peers(seen))}
    others = {peer for seen in table.values() for peer in _peers(seen) if not ip_address(peer).is_loopback}
    return tuple(sorted(mine | others))


def _told(pid: int) -> Iterator[str]:
    try:
        words = read(pid, "environ").split("\0")
    except OSError:  # it has ended, or is closed to us
        return
    for word in words:
        if word.startswith(_VARIABLES) and (peer := _plain(word.partition("=")[2].partition(" ")[0])):
            yield peer


def _plain(text: str) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _peers(seen: Seen) -> Iterator[str]:
    if seen.comm not in _SSHD:
        return
    inodes = set(_sockets(seen.pid))
    for table in ("tcp", "tcp6"):
        yield from established(_lines(f"/proc/{seen.pid}/net/{table}"), inodes)


def _sockets(pid: int) -> Iterator[str]:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            kind, _, inode = os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")
            if kind == "socket":
                yield inode.strip("[]")
    except OSError:  # it has ended meanwhile
        return


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.readlines()[1:]
    except OSError:
        return []


def established(lines: Iterable[str], inodes: set[str]) -> Iterator[str]:
    """The peers of the established connections among some sockets, from /proc/net/tcp or tcp6.

    Args:
        lines: those of the file (proc_pid_net(5)), its heading left out.
        inodes: the sockets' inodes, as /proc/PID/fd has them.
    """
    for line in lines:
        fields = line.split()
        if fields[3] == _ESTABLISHED and fields[9] in inodes:
            yield _plain(_address(fields[2].partition(":")[0]))


def _address(hexadecimal: str) -> str:
    # four-byte words, each in the byte order of this machine
    words = [hexadecimal[i : i + 8] for i in range(0, len(hexadecimal), 8)]
    raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return str(ip_address(raw))
