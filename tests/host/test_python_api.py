"""``import chaosd``: blocks under faults, live by the engine's word, and put back whatever ends them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import daemonized
import embedding
import pytest
import traffic
import world
from daemonized import GROUP, as_user
from embedding import Program
from orchestrating import state_of
from world import until

import chaosd
from chaosd.errors import Exit
from chaosd.kernel.capability_network import GATE
from chaosd.kernel.netns import NetnsRef

PORT = 7001
NEVER: dict[str, Any] = {"syscalls": ["read"], "errno": "EIO", "mechanism": "notify"}
LIVE = """
import chaosd, time
with chaosd.inject("process.pause", target="{target}", duration="60s") as run:
    print(run.id, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with embedding.program(tmp_path) as made:
        for key, value in made.places.items():
            monkeypatch.setenv(key, value)
        yield made
        made.assert_restored()


def pausing(here: Program, **more: Any) -> chaosd.Run:
    return chaosd.inject("process.pause", target=here.target, **more)


@contextmanager
def called(comm: str) -> Iterator[int]:
    """A process of this name that does nothing."""
    code = (
        f"import time; open('/proc/self/comm', 'w').write('{comm}'); print('up', flush=True); time.sleep(300)"
    )
    with world.spawn(world.python(code)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process.pid


@pytest.mark.parametrize("scenario", [True, False], ids=["scenario", "fault"])
def test_a_target_that_is_started_again_is_followed_if_asked_to(here: Program, scenario: bool) -> None:
    comm = f"back{os.getpid()}"
    if scenario:
        mapping = {"name": "pauses", "faults": ["process.pause"]}
        run = chaosd.running(mapping, target=f"comm:{comm}", duration="60s", on_restart="follow")
    else:
        run = chaosd.inject("process.pause", target=f"comm:{comm}", on_restart="follow")
    with ExitStack() as first:
        old = first.enter_context(called(comm))
        with run:
            assert state_of(old) == "T"
            first.close()
            with called(comm) as new:
                until(lambda: state_of(new) == "T", "not followed", 30)
                assert run.plan["on_restart"] == "follow"


def test_what_on_restart_cannot_be_is_said(here: Program) -> None:
    with pytest.raises(chaosd.ChaosdError, match="on_restart: 'later' is neither end nor follow"):
        pausing(here, on_restart="later").__enter__()
    with pytest.raises(chaosd.ChaosdError, match="on_restart"):
        chaosd.dry_run({"name": "x", "faults": ["process.pause"]}, target=here.target, on_restart="later")


def engine(run: chaosd.Run) -> int:
    return int(run.brief()["process"]["pid"])


def test_a_block_runs_while_the_fault_is_live_and_not_after(here: Program) -> None:
    with pausing(here) as run:
        assert here.paused()
        assert run.live
        assert run.verdict == ""
        assert run.exit is None
        assert run.plan["faults"][0]["fault"] == "process.pause"
        assert [path.stem for path in here.journals()] == [run.id]
    assert not here.paused()
    assert (run.verdict, run.exit, run.phase) == ("passed", Exit.OK, "ended")
    assert run.injected == 1
    assert "host restored" in str(run)
    run.end()
    for form, has in (
        ("markdown", "| process.pause |"),
        ("junit", "<testsuite"),
        ("html", run.id),
        ("json", run.id),
    ):
        assert has in run.report(form)


def send(ns: NetnsRef, count: int) -> None:
    with traffic.sock(ns, socket.SOCK_DGRAM, "127.0.0.1") as end:
        for _ in range(count):
            end.sendto(b"x", ("127.0.0.1", PORT))


def test_evidence_inside_the_block_and_after(here: Program) -> None:
    world.need(GATE)
    with world.netns() as ns:
        fields = {"percent": "100%", "ports": [PORT]}
        with chaosd.inject("network.loss", target=f"netns:{ns.path}", **fields) as run:
            assert run.injected in (None, 0)
            send(ns, 5)
            assert run.wait_hit() == 5
            assert run.evidence[0]["fault"] == "network.loss"
            send(ns, 2)
        assert (run.verdict, run.matched, run.injected) == ("passed", 7, 7)


def test_a_fault_that_hit_nothing_is_inconclusive(here: Program) -> None:
    world.need(GATE)
    with world.netns() as ns:
        run = chaosd.inject("network.loss", percent="100%", target=f"netns:{ns.path}")
        with run, pytest.raises(chaosd.ChaosdError, match="has hit nothing within 0"):
            run.wait_hit(within=0.2)
        assert (run.verdict, run.exit, run.injected) == ("inconclusive", Exit.INCONCLUSIVE, 0)
        assert "hit nothing" in run.reason


def test_an_exception_leaves_the_block_as_it_is_and_the_host_as_before(here: Program) -> None:
    with pytest.raises(ZeroDivisionError) as raised, pausing(here) as run:
        raise ZeroDivisionError
    assert not here.paused()
    assert run.verdict == "passed"
    assert not hasattr(raised.value, "__notes__")


def test_a_block_that_outlasts_the_fault_is_told(here: Program) -> None:
    def outlast(error: Exception | None) -> None:
        with pausing(here, duration="300ms") as run:
            until(lambda: not run.live, "never over")
            if error is not None:
                raise error

    with pytest.raises(chaosd.EndedEarlyError, match=r"its time was over.*longer duration"):
        outlast(None)
    with pytest.raises(ZeroDivisionError) as raised:
        outlast(ZeroDivisionError())
    assert "were lifted before the block was over" in raised.value.__notes__[0]


def test_a_target_that_dies_in_the_block(here: Program) -> None:
    with world.spawn(["sleep", "600"]) as other:
        run = chaosd.inject("process.pause", target=f"pid:{other.pid}")
        run.start()
        other.kill()
        until(lambda: not run.live, "not noticed")
        with pytest.raises(chaosd.TargetLostError):
            run.end()


def test_the_engine_is_killed_in_the_block(here: Program) -> None:
    run = pausing(here)
    run.start()
    os.kill(engine(run), signal.SIGKILL)
    until(lambda: not here.paused(), "not put back")
    with pytest.raises(chaosd.EndedEarlyError):
        run.end()
    assert (run.verdict, run.exit) == ("killed", Exit.FAILED)


def test_one_run_at_a_time_from_any_thread(here: Program) -> None:
    found: list[str] = []

    def other() -> None:
        try:
            pausing(here).start()
        except chaosd.BusyError as error:
            found.append(str(error))

    with pausing(here):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "another run holds this host" in found[0]
    scenario = {"name": "x", "faults": ["process.pause"], "duration": "200ms"}
    thread = threading.Thread(target=lambda: found.append(chaosd.run(scenario, target=here.target).verdict))
    thread.start()
    thread.join()
    assert found[1] == "passed"


def test_the_thread_that_began_may_end_before_its_fault_does(here: Program) -> None:
    run = pausing(here)
    thread = threading.Thread(target=run.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert run.live
    assert here.paused()
    run.end()
    assert run.verdict == "passed"


def test_the_event_loop_goes_on(here: Program) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        async with pausing(here) as run:
            assert here.paused()
        assert run.verdict == "passed"
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 10


@pytest.mark.parametrize("after", [0.0, 0.2, 2.0])
def test_a_task_that_is_cancelled_leaves_nothing(here: Program, after: float) -> None:
    async def task() -> None:
        async with pausing(here):
            await asyncio.sleep(60)

    async def main() -> None:
        doing = asyncio.create_task(task())
        await asyncio.sleep(after)
        doing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doing
        assert not here.paused()
        assert not here.journals()

    asyncio.run(main())


def test_ctrl_c_ends_the_block_in_order(here: Program) -> None:
    process = here.python(LIVE.format(target=here.target))
    assert process.stdout is not None
    process.stdout.readline()
    assert here.paused()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert not here.paused(), "when the program has ended, not some time later"
    assert errors.strip().endswith("KeyboardInterrupt")


def test_a_program_that_is_killed_leaves_the_host_as_before(here: Program) -> None:
    process = here.python(LIVE.format(target=here.target))
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    assert here.paused()
    process.kill()
    _, errors = process.communicate(timeout=60)
    here.assert_restored()
    assert "Traceback" not in errors, errors
    assert "interrupted" in (here.folder / "state/runs" / f"{run}.jsonl").read_text("utf-8")


DYING = """
import chaosd, os, time
with chaosd.inject("process.pause", target="{target}", duration="60s") as run:
    print(run.id, flush=True)
    os.closerange(3, 1024)
    time.sleep(0.5)
    os.kill(os.getpid(), 9)
"""


def test_a_program_is_dead_when_it_has_ended_and_not_when_its_files_are_closed(here: Program) -> None:
    """Which the kernel does first, and has anybody who listens to them know."""
    process = here.python(DYING.format(target=here.target))
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    process.wait(60)
    here.assert_restored()
    assert '"reason":"by SIGTERM"' in (here.folder / "state/runs" / f"{run}.jsonl").read_text("utf-8")


@pytest.mark.parametrize("after", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_program_that_is_killed_at_any_time(here: Program, after: float) -> None:
    process = here.python(LIVE.format(target=here.target))
    time.sleep(after)
    process.kill()
    process.communicate(timeout=60)
    here.assert_restored()


def test_program_and_engine_are_killed_at_once(here: Program) -> None:
    process = here.python(LIVE.format(target=here.target))
    assert process.stdout is not None
    process.stdout.readline()
    killed = int(re.search(r'"pid":(\d+)', here.journals()[0].read_text("utf-8"))[1])  # type: ignore[index]
    os.kill(killed, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=60)
    here.assert_restored()


def test_a_program_with_many_descriptors(here: Program) -> None:
    """select(2) knows no descriptor above 1023."""
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1020)]
    try:
        with pausing(here) as run:
            assert here.paused()
    finally:
        for fd in many:
            os.close(fd)
    assert run.verdict == "passed"


def test_what_is_wrong_is_told_in_words_and_nothing_is_touched(here: Program) -> None:
    with pytest.raises(chaosd.ChaosdError, match="did you mean process"):
        chaosd.inject("process.puase", target=here.target).start()
    with pytest.raises(chaosd.ChaosdError, match="did you mean delay"):
        chaosd.inject("network.delay", delya="1s", delay="1s", target=here.target).start()
    with pytest.raises(chaosd.ChaosdError, match="no such file: nowhere"):
        chaosd.run("nowhere.yaml")
    with pytest.raises(chaosd.ChaosdError, match="which chaosd was started from"):
        chaosd.inject("process.pause", target=f"pid:{os.getpid()}").start()
    with pytest.raises(chaosd.UnsupportedError, match="only of a program that it starts itself"):
        chaosd.inject("syscall.error", target=here.target, **NEVER).start()
    assert not here.journals()


def test_plans_and_what_can_be_done(here: Program) -> None:
    planned = chaosd.dry_run({"name": "x", "faults": ["process.pause"], "duration": "1s"}, target=here.target)
    assert planned["faults"][0]["target"] == here.target
    assert chaosd.available("process.pause") is None
    assert "only of a program that it starts itself" in str(chaosd.available("clock.skew"))
    with pytest.raises(chaosd.ChaosdError, match="unknown fault"):
        chaosd.available("network.nothing")
    assert not here.journals()


def test_a_scenario_around_a_block_needs_its_steady_state(here: Program) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        check = {"tcp": {"host": "127.0.0.1", "port": server.getsockname()[1], "within": "1s"}}
        scenario = {"name": "x", "faults": ["process.pause"], "duration": "60s", "steady_state": [check]}
        with chaosd.running(scenario, target=here.target) as run:
            assert here.paused()
        assert run.verdict == "passed"
        assert run.recovered_after is not None
    with pytest.raises(chaosd.ChaosdError, match="the steady state does not hold"):
        chaosd.running(scenario, target=here.target).start()
    assert chaosd.run(scenario, target=here.target).verdict == "refused"


# Through the daemon, for a member of its group.


@pytest.fixture(scope="module")
def daemon() -> Iterator[daemonized.Daemon]:
    with daemonized.daemon() as made:
        yield made


def as_member(daemon: daemonized.Daemon, do: Any) -> Any:
    from grp import getgrnam

    def told() -> Any:
        os.environ |= {key: daemon.env[key] for key in daemon.env if key.startswith("CHAOSD_")}
        try:
            return do()
        except chaosd.ChaosdError as error:
            return f"{type(error).__name__}: {error}"

    return as_user(65534, getgrnam(GROUP).gr_gid, told)


def test_who_is_not_root_is_told_so_where_no_daemon_is(here: Program) -> None:
    said = as_user(65534, 65534, lambda: [chaosd.available("process.pause"), _refused(here)])
    assert all("must be root" in str(each) for each in said)


def _refused(here: Program) -> str:
    try:
        pausing(here)
    except chaosd.UnsupportedError as error:
        return str(error)
    return "allowed"


def test_a_member_of_the_group_has_the_daemon_do_it(daemon: daemonized.Daemon) -> None:
    pid = daemon.sleeper()

    def do() -> list[Any]:
        with chaosd.inject("process.pause", target=f"pid:{pid}") as run:
            inside = [state_of(pid), run.live]
        return [
            *inside,
            state_of(pid),
            run.verdict,
            "host restored" in str(run),
            chaosd.available("process.pause"),
        ]

    assert as_member(daemon, do) == ["T", True, "S", "passed", True, None]
    assert as_member(daemon, lambda: chaosd.run("service-pause", target="pid:1").verdict).startswith(
        "ChaosdError"
    )
    planned = as_member(daemon, lambda: chaosd.dry_run("cpu-throttling", target=f"pid:{pid}"))
    assert planned["faults"][0]["target"] == f"pid:{pid}"


def test_one_at_a_time_through_the_daemon_too(daemon: daemonized.Daemon) -> None:
    pid = daemon.sleeper()
    run = daemon.pause(pid)
    said = as_member(daemon, lambda: chaosd.inject("process.pause", target=f"pid:{pid}").start())
    assert said.startswith("BusyError: another run holds this host"), said
    daemon.post(f"/v1/runs/{run}/stop")


def test_a_client_that_is_killed_in_its_block(daemon: daemonized.Daemon) -> None:
    """The connection ends with it, and the run with the connection."""
    pid = daemon.sleeper()

    def do() -> None:
        with chaosd.inject("process.pause", target=f"pid:{pid}"):
            assert state_of(pid) == "T"
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ValueError, match="Expecting value"):
        as_member(daemon, do)  # which has nothing to say
    until(lambda: state_of(pid) == "S", "not put back")
    until(lambda: not daemon.journals(), "not ended")
    assert daemon.get("/v1/history")[0]["verdict"] == "interrupted"


def test_only_runs_by_themselves_are_lifted(daemon: daemonized.Daemon) -> None:
    status, problem = daemon.ask("POST", "/v1/runs/abcdef/lift", {})
    assert (status, problem["hint"]) == (404, "/v1/runs/abcdef/stop")
    pid = daemon.sleeper()
    run = daemon.pause(pid)
    daemon.wait_phase(run, "fault")
    daemon.post(f"/v1/runs/{run}/lift")
    assert daemon.events(run)[-1]["verdict"] == "passed"
    assert state_of(pid) == "S"


def test_the_examples_of_the_documentation(here: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (embedding.ROOT / "docs/python.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    monkeypatch.chdir(here.folder)
    for block in blocks:
        exec(block, {"pid": here.pid, "__name__": "example"})
        assert not here.paused()
