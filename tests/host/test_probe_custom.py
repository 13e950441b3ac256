"""probe.custom: the examples of docs/custom-probes.md as they stand, and what ends them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import injecting
import pytest
import world
import yaml

from chaosd.document import convert
from chaosd.errors import ChaosdError
from chaosd.faults.probe_custom import ProbeCustom
from chaosd.kernel import syscalls
from chaosd.kernel.cgroup import UNIFIED
from chaosd.kernel.custom_child import BCC
from chaosd.kernel.custom_probe import CustomProbe
from chaosd.kernel.edit import to_data
from chaosd.kernel.netns import NetnsRef
from chaosd.kernel.tracer_rule import mix
from chaosd.scenario import library
from chaosd.targets.model import Target

pytestmark = pytest.mark.timeout(900)  # each compiles, which takes minutes in an emulator that is not alone
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/custom-probes.md").read_text("utf-8")
OPENER = """
import sys
for line in sys.stdin:
    try:
        open(line.rstrip()).close()
        print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
READER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
for line in sys.stdin:
    got = os.pread(file, 4096, 0), os.lseek(file, 0, os.SEEK_SET), os.read(file, 4096)
    print("".join(str(int(text[100] != 97 or set(text) != {97})) for text in (got[0], got[2])), flush=True)
"""


def _example(number: int, folder: Path) -> ProbeCustom:
    """A fault of the page, its source put into a file."""
    source = re.findall(r"^```c\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[number]
    scenario = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[number]
    fields = yaml.safe_load(scenario)["faults"][0]["probe.custom"]
    place = folder / Path(fields["source"]).name
    place.write_text(source, "utf-8")
    place.chmod(0o644)
    fault: ProbeCustom = convert(fields | {"source": str(place)}, ProbeCustom)
    return fault


def test_the_probe_that_comes_with_chaosd_is_that_of_the_page() -> None:
    shipped = library()["settings-unreadable"].parent / "probes/open_fails.c"
    assert f"```c\n{shipped.read_text('utf-8')}```\n" in PAGE


def _ask(process: subprocess.Popen[str], word: object = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n")
    return process.stdout.readline().strip()


def _reverted_elsewhere(edit: CustomProbe) -> list[str]:
    """What a process finds that knows only the journal, and ends the helper by SIGKILL; then once more."""
    code = "edit = from_data(json.loads(sys.argv[1])); print(edit.revert(), edit.revert(), sep='\\n')"
    words = world.python(
        f"import json, sys\nfrom chaosd.kernel.edit import from_data\n{code}", json.dumps(to_data(edit))
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


@contextmanager
def _openers() -> Iterator[list[subprocess.Popen[str]]]:
    argv = world.python(OPENER)
    with world.spawn(argv) as one, world.spawn(argv) as other:
        for process in (one, other):
            assert _ask(process, "/") == "21"  # EISDIR: it is up
        yield [one, other]


def test_the_example_fails_every_third_open_of_one_name_until_lease_or_helper_ends(tmp_path: Path) -> None:
    """Exact turns, counts and hits; neither another name nor another process; both ends of it."""
    world.need(BCC)
    wanted, other = tmp_path / "settings.json", tmp_path / "settings.json5"
    wanted.touch()
    other.touch()
    fault = _example(0, tmp_path)
    with _openers() as (ours, neighbor):
        target = injecting.process(ours.pid, NetnsRef.own())
        [edit] = injecting.planned(fault, target)
        assert isinstance(edit, CustomProbe)
        with injecting.applied([edit]):
            assert [_ask(ours, wanted) for _ in range(9)] == ["5", "0", "0"] * 3
            assert {_ask(ours, other) for _ in range(3)} == {_ask(neighbor, wanted)} == {"0"}
            found = edit.evidence()
            assert found is not None
            assert (found.matched, found.injected, found.skipped) == (9, 3, {"turn": 6})
            assert found.processes == {ours.pid: 3}
            assert [(hit.pid, hit.call) for hit in edit.hits()] == [(ours.pid, "open_fails.c")] * 3
            injecting.lease(-1)
            assert {_ask(ours, wanted) for _ in range(3)} == {"0"}, "the lease is over"
            injecting.lease(120)
            assert [_ask(ours, wanted) for _ in range(3)] == ["5", "0", "0"]
            assert _reverted_elsewhere(edit) == ["undone", "already gone"]
            world.until(edit.lost, "nobody notices that the probe is gone")
            world.until(
                lambda: {_ask(ours, wanted) for _ in range(3)} == {"0"}, "the probe outlived its holder"
            )


def test_the_example_turns_bits_over_as_the_seed_and_the_budget_say(tmp_path: Path) -> None:
    """The same draws as every other fault makes of its seed, in a whole cgroup."""
    world.need(BCC)
    data = tmp_path / "data"
    data.write_bytes(b"a" * 4096)
    fault = _example(1, tmp_path)
    drawn = [mix(7 ^ mix(number)) >> 63 == 0 for number in range(12)]  # 7 is the seed that injecting takes
    spent = [sum(drawn[:number]) for number in range(12)]
    expected = [int(hit and before < fault.budget) for hit, before in zip(drawn, spent, strict=True)]
    with world.cgroup() as group, world.spawn(world.python(READER, data), cg=group) as reader:
        assert _ask(reader) == "00"
        [edit] = injecting.planned(fault, Target("cgroup:test", cgroups={UNIFIED: group}))
        with injecting.applied([edit]):
            assert [_ask(reader) for _ in range(12)] == [f"0{hit}" for hit in expected], "pread is not hit"
            found = edit.evidence()
            assert found is not None
            assert (found.matched, found.injected) == (12, 3)
        assert _ask(reader) == "00"
    assert data.read_bytes() == b"a" * 4096


def test_what_is_wrong_in_the_source_is_said_with_its_line(tmp_path: Path) -> None:
    world.need(BCC)
    source = tmp_path / "wrong.c"
    source.write_text(
        "#include <linux/fs.h>\n\nRAW_TRACEPOINT_PROBE(sys_enter)\n{\n\treturn nothing;\n}\n", "utf-8"
    )
    with world.spawn(world.python(OPENER)) as process:
        target = injecting.process(process.pid, NetnsRef.own())
        [edit] = injecting.planned(ProbeCustom(source=str(source)), target)
        edit.prepare()
        with pytest.raises(ChaosdError, match=r"wrong\.c:5: use of undeclared identifier 'nothing'"):
            world.until(edit.ready, "no answer", 600)
    assert not edit.present()


EVERY_WAY = """
int kprobe__security_file_open(struct pt_regs *ctx) { CHAOSD_STRIKES(); return 0; }
int kretprobe__security_file_open(struct pt_regs *ctx) { CHAOSD_STRIKES(); return 0; }
KFUNC_PROBE(security_file_open, struct file *file) { CHAOSD_STRIKES(); return 0; }
KRETFUNC_PROBE(security_file_open, struct file *file, int refused) { CHAOSD_STRIKES(); return 0; }
KMOD_RET(security_file_open, struct file *file, int refused) { CHAOSD_STRIKES(); return refused; }
LSM_PROBE(file_open, struct file *file, int refused) { CHAOSD_STRIKES(); return refused; }
RAW_TRACEPOINT_PROBE(sys_enter) { if (ctx->args[1] == PARAM_CALL) CHAOSD_STRIKES(); return 0; }
TRACEPOINT_PROBE(syscalls, sys_enter_openat) { CHAOSD_STRIKES(); return 0; }
"""


def test_every_way_of_attaching_that_the_page_names(tmp_path: Path) -> None:
    """One open is met eight times, and no kprobe is left in tracefs, where it would outlive us."""
    world.need(BCC)
    source = tmp_path / "every_way.c"
    source.write_text(EVERY_WAY, "utf-8")
    events = Path("/sys/kernel/tracing/kprobe_events")
    with world.spawn(world.python(OPENER)) as process:
        assert _ask(process, "/") == "21"
        target = injecting.process(process.pid, NetnsRef.own())
        fault = ProbeCustom(source=str(source), parameters={"call": syscalls.number("openat") or 0})
        [edit] = injecting.planned(fault, target)
        with injecting.applied([edit]):
            assert _ask(process, "/proc/self/comm") == "0"  # procfs: no overlay opens it a second time
            found = edit.evidence()
            assert found is not None
            assert (found.matched, found.injected) == (8, 8)
            assert not events.exists() or not events.read_text("ascii")


def test_a_run_compiles_under_the_watchdog_and_dies_with_its_engine(tmp_path: Path) -> None:
    """Compiling takes longer than the watchdog waits for a pulse, where it is slow enough to tell."""
    world.need(BCC)
    wanted = tmp_path / "settings.json"
    wanted.touch()
    fault = _example(0, tmp_path)
    env = os.environ | {
        "CHAOSD_RUN_DIR": str(tmp_path / "run"),
        "CHAOSD_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),
    }
    with _openers() as (ours, _):
        words = [
            "inject",
            "probe.custom",
            f"source={fault.source}",
            "parameters={name: settings.json, errno: EIO}",
        ]
        words += ["--target", f"pid:{ours.pid}", "--duration", "20m"]
        argv = [sys.executable, "-m", "chaosd", *words]
        engine = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            world.until(lambda: engine.poll() is not None or _ask(ours, wanted) == "5", "no fault", 600)
            assert engine.poll() is None, engine.stdout.read() if engine.stdout else ""
        finally:
            engine.kill()
            engine.communicate()
        world.until(lambda: _ask(ours, wanted) == "0", "the fault outlived its engine", 5)
        world.until(lambda: not list((tmp_path / "run").glob("*.jsonl")), "the run was not closed", 60)
        time.sleep(0.1)
        assert _ask(ours, wanted) == "0"
