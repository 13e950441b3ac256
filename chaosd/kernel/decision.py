"""What a tracer or a supervisor is told about the calls of a target, and what it tells of them."""

from __future__ import annotations

import errno
import json
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from chaosd.kernel import arguments, bpf, match, tracer_rule
from chaosd.kernel.edit import MARK, Evidence, Hit
from chaosd.kernel.match import Rule
from chaosd.kernel.syscalls import Calls
from chaosd.units import Duration


def says(error: int, delay: float, jitter: float) -> str:
    """What becomes of a call, in words; times are seconds."""
    about = f" ± {Duration(jitter)}" if jitter else ""
    does = [f"hold for {Duration(delay)}{about}"] if delay or jitter else []
    does += [f"fail with {errno.errorcode[error]}"] if error else []
    return " and ".join(does)


def settings(calls: Calls, rule: Rule, error: int, delay: float, jitter: float) -> dict[str, object]:
    """For ``tracer_decider.Decider``, all but the descriptors; times are seconds.

    Raises:
        UnsupportedError: the calls of this machine are not known.
    """
    numbers = arguments.numbered(calls.names)
    names = {name for of_arch in numbers.values() for name in of_arch.values()}
    return {
        "error": error,
        "delay": round(delay * 1e9),
        "jitter": round(jitter * 1e9),
        "rule": _rule(rule),
        "calls": numbers,
        "takes": {name: msgspec.to_builtins(arguments.takes(name)) for name in names},
        "path": arguments.expression(calls.path),
        "sockets": _sockets(calls.sockets),
    }


def _rule(rule: Rule) -> dict[str, int]:
    plain = {name: getattr(rule, name) for name in ("budget", "after", "first", "every", "fault")}
    return {"seed": rule.seed % (1 << 64), "worsen": round(rule.worsen * (1 << 32)), **plain}


def _sockets(filters: match.Filters) -> dict[str, object] | None:
    if filters == match.Filters():
        return None

    def numbers(networks: Iterable[str]) -> list[tuple[int, int, int]]:
        found = map(match.network, networks)
        return [(net.version, int(net.network_address), int(net.netmask)) for net in found]

    return {
        "ports": filters.ports,
        "source_ports": filters.source_ports,
        "cidrs": numbers(filters.cidrs),
        "exclude": numbers(filters.exclude),
        "protocol": match.PROTOCOLS[filters.protocol] if filters.protocol else None,
    }


def scale(fault: int, error: int, strength: float, share: float) -> None:
    """Spare some of the calls that are chosen if they are to fail, else shorten how long they are held."""
    lease = bpf.lease()
    lease.set_strength(fault, 1.0 if error else strength)
    lease.set_share(fault, share * (strength if error else bool(strength)))


class Channel:
    """A page in which the other process counts, and a pipe into which it writes some of the hits.

    ``page`` and ``pipe`` are the descriptors for that process; ``handed_over`` lets go of them here.
    """

    def __init__(self) -> None:
        self.page = os.memfd_create(f"{MARK}-counts")
        os.ftruncate(self.page, mmap.PAGESIZE)
        self._counts = mmap.mmap(self.page, mmap.PAGESIZE)
        self._hits, self.pipe = os.pipe()
        os.set_blocking(self._hits, False)
        os.set_blocking(self.pipe, False)
        self._rest = b""

    def handed_over(self) -> None:
        """Keep this side alone."""
        os.close(self.page)
        os.close(self.pipe)

    def evidence(self) -> Evidence:
        """Calls matched, hit and spared, and whose."""
        counts, processes = tracer_rule.read(self._counts)
        skipped = {why: count for why, count in counts.items() if why in tracer_rule.SKIPPED and count}
        return Evidence(counts["matched"], counts["injected"], skipped, "calls", processes)

    def hits(self) -> list[Hit]:
        """Calls that were hit since this was last asked for; some are left out when there are many."""
        with suppress(BlockingIOError):
            while said := os.read(self._hits, 1 << 16):
                self._rest += said
        *lines, self._rest = self._rest.split(b"\n")
        return [_hit(*json.loads(line)) for line in lines]

    def close(self) -> None:
        """Let go of both."""
        os.close(self._hits)
        self._counts.close()


def _hit(t: float, pid: int, comm: str, call: str, error: int, delay: float, detail: str) -> Hit:
    said = [str(Duration(delay))] if delay > 0 else []
    said += [errno.errorcode.get(error, str(error))] if error else []
    return Hit(t, pid, comm, call, " ".join(said), detail)
