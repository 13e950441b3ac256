"""Faults that come, go, grow and shrink during one run, seen at a client and in the journal."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_run import Shell
from world import need, python, spawn

from chaosd.canary import turns
from chaosd.kernel.capability_network import CONNECT, GATE, RESET
from chaosd.kernel.capability_syscalls import SECURITY
from chaosd.kernel.cgroup import CPU_V1, CPU_V2
from chaosd.kernel.tracing import PTRACE

SOME_CPU = CPU_V1 | CPU_V2

RUN = """
name: timeline
duration: {duration}
target: pid:{{pid}}
steady_state:
  - http: {{{{name: server, url: "http://127.0.0.1:8000/", netns: "{{ns}}", within: 2s, rate: 20}}}}
abort_when: [error_rate > 100%, availability < 0%]
{more}
faults:
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(stack, tmp_path)


def run(
    shell: Shell, *faults: str, duration: str = "6s", more: str = "", expect: int = 0, seed: int = 3
) -> tuple[Any, list[Any]]:
    """What came of a scenario: the view, and the samples taken while the fault was in force."""
    text = RUN.format(duration=duration, more=more) + "".join(f"  - {fault}\n" for fault in faults)
    status, out = shell.run("run", shell.scenario(text), "--seed", str(seed), "--json")
    view = json.loads(out)
    assert status == expect, view["reason"]
    assert view["restored"]["differs"] == []
    assert not any(edit["open"] for edit in view["edits"].values())
    [journal] = (shell.folder / "state/runs").glob("*.jsonl")
    records = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    samples = [r for r in records if r["type"] == "sample" and view["live"] <= r["t"] <= view["fault_ends"]]
    return view, [sample | {"at": sample["t"] - view["live"]} for sample in samples]


def medians(samples: list[Any], first: float, last: float) -> float:
    """The middle of what the check's median was in a stretch of time, in seconds."""
    return statistics.median(s["checks"]["server"]["p50"] for s in samples if first <= s["at"] <= last)


def test_a_ramp_makes_a_delay_grow(shell: Shell) -> None:
    need(GATE)
    fault = "network.delay: {{delay: 200ms, shape: {{ramp: {{up: 6s}}}}}}"
    view, samples = run(shell, fault, duration="7s")
    early, middle, late = medians(samples, 1, 2.2), medians(samples, 3, 4), medians(samples, 5.5, 7)
    assert early < middle < late, "the figures look back two seconds"
    assert 0.25 < late < 0.42, "two round trips of nearly 200 ms"
    levels = [sample["levels"][0] for sample in samples]
    assert levels == sorted(levels)
    assert levels[-1] > 0.9
    assert view["stats"]["after"]["server"]["p50"] < 0.1


def test_a_pulse_comes_and_goes(shell: Shell) -> None:
    need(CONNECT)
    text = "network.refuse: {{ports: [8000], shape: {{pulse: {{on: 2s, off: 3s}}}}}}"
    view, samples = run(shell, text, duration="10s", expect=4)  # the server itself connects to nobody
    assert {sample["levels"][0] for sample in samples} == {0.0, 1.0}
    assert "hit nothing" in view["reason"]


def test_what_cannot_be_scaled_is_applied_and_put_back_again_and_again(shell: Shell) -> None:
    view, samples = run(shell, "process.pause: {{shape: {{pulse: {{on: 1s, off: 1500ms}}}}}}", duration="7s")
    states = [edit["state"] for edit in view["edits"].values() if "stop" in edit["says"]]
    states = states or [edit["state"] for edit in view["edits"].values() if "freez" in edit["says"]]
    assert len(states) == 3, view["edits"]
    assert set(states) == {"undone"}
    assert {sample["levels"][0] for sample in samples} == {0.0, 1.0}
    assert view["evidence"][0]["injected"] >= 3, "each pause is counted"


def test_one_after_the_other_on_the_same_piece_of_kernel_state(shell: Shell) -> None:
    first = "process.pause: {{lasts: 1500ms}}"
    second = "process.pause: {{start: 3s, lasts: 1500ms}}"
    view, samples = run(shell, first, second)
    assert view["plan"]["faults"][1]["start"] == 3
    during = {(sample["levels"][0], sample["levels"][1]) for sample in samples}
    assert during == {(1, 0), (0, 0), (0, 1)}


def test_two_that_need_the_same_at_the_same_time_are_refused(shell: Shell) -> None:
    need(SOME_CPU)
    head, first = RUN.format(duration="6s", more=""), "  - cpu.throttle: {{percent: 20%, lasts: 3s}}\n"
    for start, status in (("2s", 2), ("3s", 0)):
        second = f"  - cpu.throttle: {{{{percent: 30%, start: {start}}}}}\n"
        found, out = shell.run("plan", shell.scenario(head + first + second))
        assert found == status, out
        assert ("at the same time" in out) == (status == 2)


def test_a_later_fault_that_is_never_reached_makes_the_run_inconclusive(shell: Shell) -> None:
    need(GATE)
    view, _ = run(
        shell,
        "network.delay: {{delay: 20ms}}",
        "network.loss: {{percent: 100%, start: 2s, ports: [9]}}",
        duration="3s",
        expect=4,
    )
    assert "network.loss" in view["reason"]


@pytest.mark.parametrize("mechanism", ["security", "ptrace"])
def test_a_stepwise_chance_of_failing_calls(shell: Shell, mechanism: str) -> None:
    need(SECURITY if mechanism == "security" else PTRACE)
    fault = (
        f"syscall.error: {{{{syscalls: [recvfrom], errno: EIO, mechanism: {mechanism}, "
        "shape: {{steps: {{levels: [20%, 80%]}}}}}}"
    )
    view, samples = run(shell, fault, duration="8s")
    half = next(s for s in samples if s["at"] > 4)["evidence"][0]
    whole = view["evidence"][0]
    first = half["injected"] / half["matched"]
    second = (whole["injected"] - half["injected"]) / (whole["matched"] - half["matched"])
    assert 0.05 < first < 0.45
    assert 0.6 < second < 0.95
    assert whole["skipped"]["strength"] == whole["matched"] - whole["injected"]


def test_ramps_of_what_is_there_or_not_are_refused(shell: Shell) -> None:
    for fault, says in (
        ("process.pause: {{shape: ramp}}", "is there or not, never half"),
        ("process.kill: {{shape: {{pulse: {{on: 1s, off: 1s}}}}}}", "cannot come and go"),
    ):
        path = shell.scenario(RUN.format(duration="6s", more="") + f"  - {fault}\n")
        status, out = shell.run("plan", path)
        assert status == 2
        assert says in out


HOLDS = """
import socket
listener = socket.create_server(("127.0.0.1", 9))
end = socket.create_connection(listener.getsockname())
print("up", flush=True)
end.recv(1)
"""


def test_a_target_that_dies_of_what_cannot_be_undone_is_lost(shell: Shell) -> None:
    need(RESET)
    with spawn(python(HOLDS), ns=shell.ns) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "up\n"
        view, _ = run(shell, f"network.reset: {{{{target: 'pid:{client.pid}'}}}}", expect=1)
    assert (view["verdict"], view["reason"]) == (
        "target-lost",
        f"pid:{client.pid} is gone: pid {client.pid} has ended",
    )


CANARY = "canary: {{{{steps: [10%, 40%, 100%], every: 3s, shrink_when: ['{shrink}']}}}}"


def test_a_canary_run_widens_while_all_is_well(shell: Shell) -> None:
    need(GATE)
    fault = "network.delay: {{delay: 20ms, of: flows}}"
    _, samples = run(shell, fault, duration="10s", more=CANARY.format(shrink="error_rate > 5%"))
    shares = [sample["levels"][0] for sample in samples]
    assert list(dict.fromkeys(shares)) == [0.1, 0.4, 1.0]
    first, last = samples[len(samples) // 4]["evidence"][0], samples[-1]["evidence"][0]
    assert first["injected"] / first["matched"] < 0.4
    assert last["injected"] > first["injected"]


def test_a_canary_run_shrinks_at_once_when_it_is_not(shell: Shell) -> None:
    need(GATE)
    fault = "network.delay: {{delay: 1500ms, of: flows}}"
    _, samples = run(shell, fault, duration="14s", more=CANARY.format(shrink="p50 > 1s"))
    shares = [sample["levels"][0] for sample in samples]
    assert {0.1, 0.4, 1.0} <= set(shares)
    assert (1.0, 0.4) in pairwise(shares), "half of the answers are late only when all flows are"


def test_a_canary_run_of_targets_gives_the_faults_to_one_more_at_a_time(shell: Shell) -> None:
    """The service is the second of two to be paused, and is let go as soon as it is missed."""
    service = f"pid:{shell.server}"
    with spawn(["sleep", "600"]) as sleeper:
        other = f"pid:{sleeper.pid}"
        seed = next(seed for seed in range(100) if turns([service, other], seed)[service])
        canary = "canary: {{of: targets, steps: [1%, 100%], every: 3s, shrink_when: [error_rate > 20%]}}"
        faults = [f"process.pause: {{{{target: '{target}'}}}}" for target in (service, other)]
        more = f"blast_radius: service-cluster\n{canary}"
        view, samples = run(shell, *faults, duration="9s", more=more, seed=seed)
    paused = list(dict.fromkeys(pairwise(tuple(sample["levels"]) for sample in samples)))
    assert samples[0]["levels"] == [0, 1]
    assert ((0, 1), (1, 1)) in paused
    assert ((1, 1), (0, 1)) in paused
    assert samples[2]["checks"]["server"]["failed"] == 0
    assert view["stats"]["during"]["server"]["failed"] > 0


def test_a_canary_run_of_one_target_or_without_a_way_back_is_refused(shell: Shell) -> None:
    for fault, says in (
        ("process.pause", "is one target, of which there are no shares"),
        ("process.kill", "cannot be undone, so a canary run could not shrink"),
    ):
        text = RUN.format(duration="6s", more="canary: {{of: targets}}") + f"  - {fault}\n"
        status, out = shell.run("plan", shell.scenario(text))
        assert status == 2
        assert says in out
