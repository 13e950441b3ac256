"""Every request that is sent is, byte for byte, what pyroute2 would send for the same purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.iproute.linux import IPBatch
from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.tcmsg import plugins, sched_netem, sched_tbf

from chaosd.kernel.netem import Netem, Tbf
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.rtnetlink import Rtnl, attributes

SIDE, PRIO, HANDLE, ROOT = 0xFFFFFFF3, 7, 0xC4ABCDEF, 0xC4A00000
PLACE = (5, SIDE, PRIO, HANDLE)
THERE = {"index": 5, "handle": HANDLE, "parent": SIDE, "prio": PRIO, "protocol": 3}
MIRRED = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": 8}
NOWHERE = NetnsRef(0, "")
shares = st.floats(0, 1)


class Recorded(Rtnl):
    """Keeps what it would send, instead of sending it."""

    sent: tuple[int, int, bytes]

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self.sent = kind, flags | 1, body
        return []


@pytest.fixture(scope="module")
def theirs() -> Iterator[Any]:
    with IPBatch() as batch:
        yield batch


def ours(ask: Callable[[Rtnl], None]) -> tuple[int, int, bytes]:
    here = Recorded()
    ask(here)
    here.close()
    return here.sent


def built(batch: Any, ask: Callable[[Any], object]) -> tuple[int, int, bytes]:
    batch.reset()
    ask(batch)
    data = bytes(batch.batch)
    assert int.from_bytes(data[:4], "little") == len(data)
    kind, flags = (int.from_bytes(data[at : at + 2], "little") for at in (4, 6))
    return kind, flags, data[16:]


@pytest.mark.parametrize(
    ("ask", "build"),
    [
        (lambda ip: ip.add_link("chaosd0", "ifb"), lambda ip: ip.link("add", kind="ifb", ifname="chaosd0")),
        (lambda ip: ip.set_up(5), lambda ip: ip.link("set", index=5, state="up")),
        (lambda ip: ip.set_queue(5, 0), lambda ip: ip.link("set", index=5, txqlen=0)),
        (lambda ip: ip.delete_link(5), lambda ip: ip.link("del", index=5)),
        (lambda ip: ip.add_clsact(5), lambda ip: ip.tc("add", "clsact", 5)),
        (lambda ip: ip.delete_clsact(5), lambda ip: ip.tc("del", "clsact", 5)),
        (lambda ip: ip.delete_root(5, ROOT), lambda ip: ip.tc("del", None, 5, ROOT, parent=0xFFFFFFFF)),
        (
            lambda ip: ip.add_filter(*PLACE, program=9, name="chaosd_out:abc"),
            lambda ip: ip.tc("add-filter", "bpf", fd=9, name="chaosd_out:abc", direct_action=True, **THERE),
        ),
        (
            lambda ip: ip.add_filter(*PLACE, program=9, name="chaosd_out:abc", redirect=8),
            lambda ip: ip.tc("add-filter", "bpf", fd=9, name="chaosd_out:abc", action=MIRRED, **THERE),
        ),
    ],
)
def test_requests_are_those_of_pyroute2(
    theirs: Any, ask: Callable[[Rtnl], None], build: Callable[[Any], object]
) -> None:
    assert ours(ask) == built(theirs, build)


def test_a_filter_is_deleted_as_by_pyroute2_but_for_options_that_say_nothing(theirs: Any) -> None:
    kind, flags, body = built(theirs, lambda ip: ip.tc("del-filter", "bpf", **THERE))
    assert ours(lambda ip: ip.delete_filter(*PLACE)) == (kind, flags, body[:28])
    assert attributes(body, 28) == {2: attributes(body, 20)[2]}


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyroute2's plug-ins have no place for all options, so that they are given to it as bytes."""
    plain = SimpleNamespace(parent=0xFFFFFFFF, options=nla.hex, get_parameters=lambda asked: asked["packed"])
    for kind in ("netem", "tbf"):
        monkeypatch.setitem(plugins, kind, plain)


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize(
    "edit",
    [
        Netem(NOWHERE, "d", delay=0.1),
        Netem(NOWHERE, "d", delay=0.1, jitter=0.02, correlation=0.25, shape="paretonormal", seed=77),
        Netem(NOWHERE, "d", corrupt=0.01, rate=1e6, limit=17),
        Netem(NOWHERE, "d", rate=80e9),
        Tbf(NOWHERE, "d", 1e6, 10_000, 100_000),
    ],
    ids=str,
)
def test_a_root_qdisc_is_made_and_changed_as_by_pyroute2(
    theirs: Any, edit: Netem | Tbf, *, change: bool
) -> None:
    kind, options = type(edit).__name__.lower(), edit.options()
    order = "change" if change else "add"
    assert ours(lambda ip: ip.set_root(5, ROOT, kind, options, change=change)) == built(
        theirs, lambda ip: ip.tc(order, kind, 5, ROOT, packed=options)
    )


def read(codec: Any, options: bytes) -> Any:
    """Options as pyroute2 reads them."""
    message = codec.options(data=bytes((*(len(options) + 4).to_bytes(2, "little"), 2, 0)) + options)
    message.decode()
    return message


@given(shares, shares, st.integers(0, 2**31 - 1), st.floats(0.001, 1e3), st.floats(8, 30e9))
def test_pyroute2_reads_what_it_knows_of_netem_as_it_was_meant(
    corrupt: float, correlation: float, limit: int, delay: float, rate: float
) -> None:
    edit = Netem(NOWHERE, "d", delay=delay, correlation=correlation, corrupt=corrupt, rate=rate, limit=limit)
    seen = read(sched_netem, edit.options())
    assert (seen["limit"], seen["delay"], seen["loss"], seen["gap"], seen["duplicate"]) == (limit, 0, 0, 0, 0)
    whole = 2**32 - 1
    assert seen.get_attr("TCA_NETEM_CORR")["delay_corr"] == round(correlation * whole)
    assert seen.get_attr("TCA_NETEM_CORRUPT")["prob_corrupt"] == round(corrupt * whole)
    assert seen.get_attr("TCA_NETEM_RATE")["rate"] == round(rate / 8)


@given(st.floats(1e3, 30e9), st.integers(2000, 1 << 20), st.integers(2000, 1 << 24))
def test_pyroute2_reads_what_it_knows_of_tbf_as_it_was_meant(rate: float, burst: int, queue: int) -> None:
    parameters = read(sched_tbf, Tbf(NOWHERE, "d", rate, burst, queue).options()).get_attr("TCA_TBF_PARMS")
    assert (parameters["rate"], parameters["limit"]) == (round(rate / 8), queue)


@given(st.binary())
def test_attributes_of_anything_are_read_to_an_end(data: bytes) -> None:
    assert all(0 <= kind < 0x8000 for kind in attributes(data))
