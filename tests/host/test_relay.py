"""The relay in real namespaces: what goes through it arrives as netem would have delivered it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import accumulate, pairwise

import msgspec
import pytest
import world
from detour import RIGHT, Detour, detour, receive, stamped, unused_name
from pyroute2 import IPRoute

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.kernel import relay, relay_process, tap
from chaosd.kernel.edit import Undo, from_data, to_data
from chaosd.kernel.netns import NetnsRef, inside
from chaosd.kernel.process import descendants
from chaosd.kernel.relay import Counts, Relay

PORT = 4000
ENGINE = """
import json, sys, time
from chaosd.kernel.edit import from_data
from chaosd.kernel.relay import Relay
edit = from_data(json.loads(sys.argv[1]))
print(getattr(edit, sys.argv[2])() or "done", flush=True)
time.sleep(600)
"""
WATCHDOG = """
import json, sys
from chaosd.kernel.edit import from_data
from chaosd.kernel.relay import Relay
print(from_data(json.loads(sys.argv[1])).revert().name)
"""


@pytest.fixture(autouse=True)
def _tap() -> None:
    world.need(tap.TAP)


@pytest.fixture
def joined() -> Iterator[Detour]:
    with detour() as d:
        yield d


@pytest.fixture
def ns() -> Iterator[NetnsRef]:
    with world.netns() as ref:
        yield ref


def _burst(d: Detour, count: int, size: int = 64, pause: float = 0.0) -> list[tuple[int, float]]:
    """What arrives of numbered packets from left to right: number, seconds from send to arrival."""
    with d.receiver(PORT) as end, d.sender(PORT) as out:
        stamped(end)
        end.settimeout(0.5)
        sent: list[float] = []
        got: list[tuple[int, float]] = []
        listener = threading.Thread(target=lambda: got.extend(_listen(end)))
        listener.start()
        for number in range(count):
            sent.append(time.time())
            out.send(number.to_bytes(4).ljust(size, b"x"))
            time.sleep(pause)
        listener.join()
    return [(number, when - sent[number]) for number, when in got]


def _listen(end: socket.socket) -> Iterator[tuple[int, float]]:
    try:
        while True:
            data, when = receive(end)
            yield int.from_bytes(data[:4]), when
    except TimeoutError:
        pass


def _counts(edit: Relay) -> Counts:
    counts = edit.counts()
    assert counts is not None
    return counts


def _pid(edit: Relay) -> int:
    return relay._children[edit].process.pid


def test_a_udp_packet_is_held_for_the_delay(joined: Detour) -> None:
    """The median packet takes the delay longer, to within a millisecond."""
    bare = statistics.median(took for _, took in _burst(joined, 20, pause=0.005))
    with joined.through(delay=0.05) as edit:
        arrived = _burst(joined, 20, pause=0.005)
        assert edit.counts().hit == 20
    assert [number for number, _ in arrived] == list(range(20))
    assert statistics.median(took for _, took in arrived) - bare == pytest.approx(0.05, abs=0.001)


def test_a_ping_takes_the_delay_longer(joined: Detour) -> None:
    """One round trip grows by the delay once."""
    with joined.through(delay=0.03):
        said = subprocess.run(
            ["nsenter", f"--net={joined.left.path}", "ping", "-c", "5", "-i", "0.1", "-q", RIGHT],
            check=True, text=True, capture_output=True,
        ).stdout  # fmt: skip
    assert 30 <= float(said.rpartition(" = ")[2].split("/")[1]) < 35


def test_bulk_tcp_arrives_whole_and_as_large_packets(joined: Detour) -> None:
    """20 MiB arrive unchanged behind a delay, and the TAP takes GSO packets as they are."""
    data = os.urandom(20 << 20)
    with joined.through(delay=0.05) as edit, joined.socket(joined.right, socket.SOCK_STREAM) as server:
        server.bind((RIGHT, PORT))
        server.listen()
        with joined.socket(joined.left, socket.SOCK_STREAM) as out:
            began = time.monotonic()
            out.connect((RIGHT, PORT))
            connected = time.monotonic() - began
            sender = threading.Thread(target=lambda: (out.sendall(data), out.shutdown(socket.SHUT_WR)))
            sender.start()
            with server.accept()[0] as end:
                arrived = b"".join(iter(lambda: end.recv(1 << 20), b""))
            sender.join()
        assert arrived == data
        assert 0.05 <= connected < 0.1  # the SYN, not its answer
        seen = _counts(edit)
        assert seen.bytes_in / seen.frames_in > 4000
        assert seen.refused == seen.over_limit == seen.overrun == 0


@pytest.mark.alone
def test_jitter_spreads_and_reorders(joined: Detour) -> None:
    """Delays lie within delay ± jitter and packets overtake one another, as in netem."""
    with joined.through(delay=0.04, jitter=0.02):
        arrived = _burst(joined, 300, pause=0.001)
    took = [t for _, t in arrived]
    assert len(took) == 300
    assert 0.0195 < min(took) < 0.024
    assert statistics.quantiles(took, n=4) == pytest.approx([0.03, 0.04, 0.05], abs=0.005)
    assert [number for number, _ in arrived] != list(range(300))


@pytest.mark.parametrize(
    ("shape", "spread"), [("uniform", 3**-0.5), ("normal", 1.0), ("pareto", 0.82), ("paretonormal", 0.835)]
)
def test_a_distribution_deviates_by_about_one_jitter(shape: str, spread: float) -> None:
    """The mean is near 0; the tails end at 4 jitters, which is why Pareto's spread is below 1."""
    quantile = relay_process.distribution(shape)
    values = [quantile((n + 0.5) / 20000) for n in range(20000)]
    assert statistics.mean(values) == pytest.approx(0, abs=0.06)
    assert statistics.pstdev(values) == pytest.approx(spread, abs=0.01)
    assert max(map(abs, values)) <= 4


def test_correlation_ties_a_number_to_the_one_before() -> None:
    """At 0.9, neighbors differ by a tenth of what they do at 0 (a tenth of a new number each)."""

    def step(correlation: float) -> float:
        roll = relay_process.Dice(relay_process.Random(1).random, correlation).roll
        values = [roll() for _ in range(5000)]
        return statistics.mean(abs(a - b) for a, b in pairwise(values))

    assert step(0.9) / step(0.0) == pytest.approx(0.1, abs=0.03)


def test_each_corrupted_packet_fails_its_checksum(joined: Detour) -> None:
    """Every packet that was spoilt is missing on the right, and no other."""
    with joined.through(corrupt=0.1, seed=1) as edit:
        arrived = _burst(joined, 1000, pause=0.0002)
        seen = _counts(edit)
    assert seen.corrupted == pytest.approx(100, abs=40)
    assert len(arrived) == 1000 - seen.corrupted
    assert edit.evidence() is None


def test_corruption_flips_one_bit_behind_the_ethernet_header(ns: NetnsRef) -> None:
    """Seen on the TAP itself: frames come back with exactly one bit changed, addresses untouched."""
    edit = Relay(ns, unused_name(), corrupt=1.0, seed=3)
    edit.apply()
    try:
        with inside(ns):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        frame = bytes(range(14)).replace(b"\x0c\x0d", b"\x88\xb5") + bytes(100)
        with raw:
            raw.bind((edit.name, 0x88B5))
            raw.settimeout(5)
            for _ in range(50):
                raw.send(frame)
                got = next(data for data, origin in iter(lambda: raw.recvfrom(200), None) if origin[2] != 4)
                assert got[:14] == frame[:14]
                assert sum((a ^ b).bit_count() for a, b in zip(got, frame, strict=True)) == 1
    finally:
        edit.revert()


def test_a_duplicate_arrives_twice(joined: Detour) -> None:
    """As many packets more as the relay says it duplicated."""
    with joined.through(duplicate=0.2, delay=0.01, seed=5) as edit:
        arrived = _burst(joined, 500, pause=0.0002)
        seen = _counts(edit)
    assert seen.duplicated == pytest.approx(100, abs=40)
    assert len(arrived) == 500 + seen.duplicated


def test_the_same_seed_makes_the_same_choices(joined: Detour) -> None:
    """Which packets arrive twice depends on the seed alone."""

    def doubles(seed: int) -> list[int]:
        with joined.through(duplicate=0.3, seed=seed):
            numbers = [number for number, _ in _burst(joined, 200, pause=0.0005)]
        return sorted(n for n in set(numbers) if numbers.count(n) == 2)

    assert doubles(7) == doubles(7) != doubles(8)


def _overtaking(arrived: list[tuple[int, float]]) -> list[int]:
    """The packets that arrived before one that was sent earlier, in the order of sending."""
    numbers = [number for number, _ in arrived]
    later = [*accumulate(reversed(numbers), min)][::-1]  # the smallest of those that arrive from each one on
    return sorted(number for number, least in zip(numbers, later, strict=True) if number > least)


def test_reordered_packets_are_not_delayed(joined: Detour) -> None:
    """A quarter goes at once and overtakes the rest, which waits for the delay; as many as counted."""
    with joined.through(delay=0.1, reorder=0.25, seed=2) as edit:
        arrived = _burst(joined, 400, pause=0.0005)
        seen = _counts(edit)
    assert seen.reordered == pytest.approx(100, abs=40)
    overtaking = _overtaking(arrived)
    # those before the first that waits overtake none
    first = next(place for place, (number, _) in enumerate(arrived) if number != place)
    assert len(overtaking) == seen.reordered - first
    assert statistics.median(took for number, took in arrived if number in overtaking) < 0.05
    assert len(arrived) == 400


def test_a_gap_alone_sends_every_nth_packet_at_once(joined: Detour) -> None:
    """gap 5: packets 4, 9, 14, ... come first."""
    with joined.through(delay=0.1, gap=5):
        arrived = _burst(joined, 20, pause=0.001)
    assert _overtaking(arrived) == [4, 9, 14, 19]


def test_a_rate_stretches_a_burst(joined: Detour) -> None:
    """50 packets of 1042 bytes on the wire at 1 Mbit/s take 417 ms."""
    with joined.through(rate=1e6):
        arrived = _burst(joined, 50, size=1000)
    assert [number for number, _ in arrived] == list(range(50))
    assert 0.405 < arrived[-1][1] < 0.46


def test_a_gso_packet_counts_with_the_headers_of_its_segments() -> None:
    """3 segments of 1448 bytes behind 14 + 20 + 32 bytes of headers are 3 full frames."""
    header = relay_process.struct.pack("=BBHHHH", 1, 1, 66, 1448, 34, 16)
    frame = bytearray(66 + 3 * 1448)
    frame[34 + 12] = 8 << 4
    assert relay_process.wire_length(header + bytes(frame)) == 3 * (66 + 1448)
    assert relay_process.wire_length(bytes(10) + bytes(60)) == 60


def test_packets_over_the_limit_are_dropped_and_counted(joined: Detour) -> None:
    """Of 100 in a burst, 10 are held and 90 are gone."""
    with joined.through(delay=0.2, limit=10) as edit:
        arrived = _burst(joined, 100)
        assert edit.evidence().skipped == {"limit": 90}
    assert [number for number, _ in arrived] == list(range(10))


def test_the_device_says_nothing_of_its_own_and_an_idle_relay_takes_no_cpu(ns: NetnsRef) -> None:
    """No solicitation, no report, and not one clock tick of work in 1.5 s."""
    edit = Relay(ns, unused_name(), delay=0.1, jitter=0.05)
    edit.apply()
    try:
        before = relay_ticks(_pid(edit))
        time.sleep(1.5)
        assert relay_ticks(_pid(edit)) - before <= 0
        assert edit.counts() == Counts()
        assert edit.lost() == ""
    finally:
        edit.revert()


def relay_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_killing_the_engine_leaves_no_device_and_no_process(ns: NetnsRef) -> None:
    """SIGKILL of the process that applied it: the kernel clears up by itself."""
    edit = Relay(ns, unused_name(), delay=0.1)
    with world.spawn(world.python(ENGINE, json.dumps(to_data(edit)), "apply")) as engine:
        assert engine.stdout.readline() == "done\n"
        assert edit.present()
        (pid,) = tap.holders(edit.name)
        engine.kill()
        world.until(lambda: not edit.present(), "the device outlives the engine", 2)
        world.until(lambda: not os.path.exists(f"/proc/{pid}"), "the process outlives the engine", 2)
    assert edit.revert() is Undo.GONE


def test_one_that_is_only_prepared_has_no_device_and_ends_with_the_engine(ns: NetnsRef) -> None:
    """It waits for a device that never comes; there is nothing to revert, in whatever process."""
    edit = Relay(ns, unused_name(), delay=0.1)
    with world.spawn(world.python(ENGINE, json.dumps(to_data(edit)), "prepare")) as engine:
        assert engine.stdout.readline() == "done\n"
        (pid,) = descendants(engine.pid)
        assert not edit.present()
        engine.kill()
        world.until(lambda: not os.path.exists(f"/proc/{pid}"), "the process outlives the engine", 2)
    edit.prepare()
    waiting = relay._children[edit].process
    assert edit.revert() is Undo.GONE
    assert waiting.returncode == 0


def test_the_relay_ends_with_its_control_pipe(ns: NetnsRef) -> None:
    """The end of its standard input is enough, with the parent alive."""
    edit = Relay(ns, unused_name(), delay=0.1)
    edit.apply()
    relay._children[edit].control.close()
    world.until(edit.lost, "it does not listen", 2)
    assert "exit status 0" in edit.lost()
    assert not edit.present()
    assert edit.revert() is Undo.GONE


def test_a_killed_relay_is_lost_and_takes_its_device_along(ns: NetnsRef) -> None:
    """lost() tells how it ended; there is nothing left to revert."""
    edit = Relay(ns, unused_name(), delay=0.1)
    edit.apply()
    assert edit.lost() == ""
    os.kill(_pid(edit), signal.SIGKILL)
    world.until(edit.lost, "the loss goes unnoticed", 2)
    assert "exit status -9" in edit.lost()
    world.until(lambda: not edit.present(), "the device outlives the relay", 2)
    assert edit.revert() is Undo.GONE


def test_a_device_deleted_under_the_relay_ends_it(ns: NetnsRef) -> None:
    """As when somebody says `ip link del`: the relay notices, ends, and says why."""
    edit = Relay(ns, unused_name(), delay=0.1)
    edit.apply()
    with inside(ns), IPRoute() as ip:
        ip.link("del", ifname=edit.name)
    world.until(edit.lost, "the loss goes unnoticed", 2)
    assert "bad state" in edit.lost()
    assert edit.revert() is Undo.GONE


def test_another_process_reverts_it(ns: NetnsRef) -> None:
    """The journalled value is enough for the watchdog to find the holder and end it."""
    edit = Relay(ns, unused_name(), delay=0.1)
    assert from_data(json.loads(msgspec.json.encode(to_data(edit)))) == edit
    edit.apply()
    try:
        with world.spawn(world.python(WATCHDOG, json.dumps(to_data(edit)))) as watchdog:
            assert watchdog.stdout.read() == "DONE\n"
        assert not edit.present()
        world.until(edit.lost, "the loss goes unnoticed", 2)
        assert "exit status -9" in edit.lost()
    finally:
        assert edit.revert() is Undo.GONE


def test_a_relay_in_a_namespace_that_lost_its_last_process_can_be_reverted() -> None:
    """The relay's descriptor keeps the namespace; no path leads there, yet the relay is found."""
    with world.netns() as ns:
        edit = Relay(ns, unused_name(), delay=0.1)
        edit.apply()
        relay._children.pop(edit).page.close()  # as if by another process
    assert not ns.alive()
    assert edit.present()
    assert edit.revert() is Undo.DONE
    assert not edit.present()


def test_somebody_elses_devices_are_left_alone(ns: NetnsRef) -> None:
    """A device of our name that is no relay's: apply refuses, revert does not touch it."""
    edit = Relay(ns, unused_name(), delay=0.1)
    held = tap.open_in(ns)
    try:
        tap.create(held, ns, edit.name, offload=True)
        with pytest.raises(ForeignStateError, match=edit.name):
            edit.apply()
        assert edit.revert() is Undo.FOREIGN
        assert tap.kind(ns, edit.name) == "tap"
    finally:
        os.close(held)
    assert tap.kind(ns, edit.name) == ""
    with inside(ns), IPRoute() as ip:
        ip.link("add", kind="ifb", ifname=edit.name)
    assert edit.revert() is Undo.FOREIGN
    assert tap.kind(ns, edit.name) == "ifb"


def test_a_relay_that_cannot_start_says_why_and_leaves_nothing(ns: NetnsRef) -> None:
    """The child's last words are in the error; its device is gone."""
    edit = Relay(ns, unused_name(), delay=0.1, rate="fast")  # type: ignore[arg-type]
    with pytest.raises(ChaosdError, match="could not convert string to float"):
        edit.apply()
    assert not edit.present()
    with pytest.raises(ChaosdError, match="no name for a relay"):
        Relay(ns, "eth0", delay=0.1).apply()


def test_a_descriptor_above_1024_is_no_obstacle(ns: NetnsRef) -> None:
    """select(2) cannot watch high descriptors; an engine may well have them."""
    edit = Relay(ns, unused_name(), delay=0.1)
    with open("/dev/null", "rb") as null:
        many = [fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 3) for _ in range(900)]
    try:
        high = fcntl.fcntl(many[0], fcntl.F_DUPFD_CLOEXEC, 1020)
        os.close(high)
        edit.apply()
        assert edit.lost() == ""
    finally:
        for fd in many:
            os.close(fd)
        edit.revert()
