# ruff: noqa: E501 - what must be said stands in one line
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosd import scenario as scenarios
from chaosd.direct import single
from chaosd.errors import ChaosdError
from chaosd.scenario import library, load, parse

GOOD = """\
name: slow
duration: 10s
parameters: {percent: 20%}
target: pid:1234
steady_state:
  - tcp: {host: 127.0.0.1, port: 80}
faults:
  - cpu.throttle: {percent: "${percent}"}
abort_when:
  - error_rate > 60%
"""


PROMISED = {
    "network": "network-latency network-timeout connection-failure latency-spike network-intermittent",
    "service": "random-failure circuit-breaker-trip rate-limiting cascading-failure slow-response"
    " service-unavailable",
    "database": "database-connection-failure database-slow-query database-query-timeout"
    " database-pool-exhaustion database-deadlock",
    "pms": "pms-api-failure pms-slow-response pms-rate-limiting pms-timeout pms-unavailable pms-intermittent",
    "resource": "memory-pressure cpu-throttling disk-io-slowdown resource-exhaustion memory-leak",
}


def _refusal(text: str, **overrides: object) -> str:
    with pytest.raises(ChaosdError) as caught:
        parse(text, "f.yaml", overrides)
    return caught.value.message


def test_parameters_reach_the_fault_and_set_changes_them() -> None:
    assert parse(GOOD, "f", {}).faults[0].fault.percent == 20  # type: ignore[attr-defined]
    changed = parse(GOOD, "f", {"percent": "40%", "duration": "3s", "target": "pid:5"})
    assert changed.faults[0].fault.percent == 40  # type: ignore[attr-defined]
    assert (changed.duration, changed.target) == (3, "pid:5")


def test_a_threshold_of_ones_own_replaces_the_default_for_its_metric() -> None:
    said = [str(threshold) for threshold in parse(GOOD, "f", {}).abort_when]
    assert said == ["error_rate > 60%", "availability < 50%", "host.memory.available < 3%"]
    assert [*parse(GOOD, "f", {}).checks] == ["tcp", "host"], "that of the host is there without a word"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("cpu.throttle", "cpu.throtle"), "f.yaml:8: faults.0: unknown fault 'cpu.throtle' (did you mean cpu.throttle?)"),
        (("{percent: \"", "{prcent: \""), "f.yaml:8: faults.0.cpu.throttle.prcent: unknown key (did you mean percent?)"),
        (("duration: 10s", "duration: -10s"), "f.yaml:2: duration: '-10s' is not a duration"),
        (("duration: 10s", "duration: 31m"), "f.yaml:2: duration: 31m is not allowed (more than 0 and at most 30m)"),
        (("duration: 10s", "duration: 10 parsecs"), "f.yaml:2: duration: unit 'parsecs'"),
        (("name: slow\n", ""), "name is missing"),
        (("- tcp:", "- tpc:"), "unknown check 'tpc' (did you mean tcp?)"),
        (("error_rate > 60%", "eror_rate > 60%"), "f.yaml:10: abort_when.0: unknown metric 'eror_rate'"),
        (("error_rate > 60%", "tcp.load1 > 6"), "f.yaml:10: abort_when.0: tcp does not measure load1"),
        (("port: 80}", "port: 80}\n  - tcp: {name: tcp, host: h, port: 81}"), "f.yaml:7: steady_state.1: the name 'tcp' is taken"),
        (("port: 80}", "port: 80}\nobserve:\n  - tcp: {host: h, port: 81}"), "f.yaml:7: observe: a check of the steady state is called 'tcp', too"),
        (("port: 80}", "port: 80, name: host}"), "f.yaml:6: steady_state.0: the name 'host' is taken"),
        (("port: 80}", "port: 80}\n  - log: {matches: x}"), "f.yaml:7: steady_state.1.log: takes one of file and unit"),
        (("port: 80}", "port: 80}\n  - log: {matches: '(', file: /x}"), "is not a regular expression"),
        (("port: 80}", "port: 80}\n  - process: {of: nginx}"), "of: 'nginx' names no processes"),
        (("port: 80}", "port: 80}\n  - host: {expect: [lod1 < 8]}"), "expect: unknown figure 'lod1' (did you mean load1?)"),
        (("port: 80}", "port: 80}\n  - dns: {query: a..b, server: nowhere}"), "server: 'nowhere' is not an address"),
        (("${percent}", "${prcent}"), "there is no parameter 'prcent' (did you mean percent?)"),
        (("duration: 10s", "blast_radius: galaxy\nduration: 10s"), "f.yaml:2: blast_radius: Invalid enum value"),
        (("  - cpu.throttle", "  - {}\n  - cpu.throttle"), "f.yaml:8: faults.0: must be one fault with its fields"),
        (("{percent: \"", "{start: 10s, percent: \""), "f.yaml:8: faults.0: lasts until 10s, and the run until 10s"),
        (("{percent: \"", "{start: 8s, lasts: 3s, percent: \""), "faults.0: lasts until 11s, and the run until 10s"),
        (("{percent: \"", "{shape: rmp, percent: \""), "faults.0.cpu.throttle.shape: unknown shape 'rmp' (did you mean ramp?)"),
        (("{percent: \"", "{shape: {pulse: {on: 1s}}, percent: \""), "faults.0.cpu.throttle.shape.pulse: off is missing"),
        (("{percent: \"", "{shape: {pulse: {on: 1s, off: 1ms}}, percent: \""), "1ms is shorter than 200ms"),
        (("duration: 10s", "canary: {steps: [10%, 5%]}\nduration: 10s"), "f.yaml:2: canary.steps: must grow from over 0%"),
        (("duration: 10s", "canary: {shrink_when: [eror > 1]}\nduration: 10s"), "canary.shrink_when.0: unknown metric 'eror'"),
        (("duration: 10s", "expect: [availability > 95% for 2s]\nduration: 10s"), "f.yaml:2: expect: availability is taken over all"),
        (("duration: 10s", "expect: [avail > 95%]\nduration: 10s"), "f.yaml:2: expect.0: unknown metric 'avail'"),
        (("steady_state:\n  - tcp: {host: 127.0.0.1, port: 80}", "expect: [p95 < 1s]"), "expect: the scenario has no checks"),
        (("duration: 10s", "canary: {evry: 2s}\nduration: 10s"), "canary.evry: unknown key (did you mean every?)"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_with_file_line_and_what_is_right(
    change: tuple[str, str], says: str
) -> None:
    said = _refusal(GOOD.replace(*change))
    assert any(says in line for line in said.splitlines()), said


def test_every_mistake_at_once() -> None:
    text = GOOD.replace("10s", "5").replace("cpu.throttle", "cpu.nothing").replace("error_rate", "luck")
    assert len(_refusal(text).splitlines()) == 3


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    assert "there is no parameter 'persent'" in _refusal(GOOD, persent="5%")


@pytest.mark.parametrize("text", ["", "[]", "just words", "{", "a: b: c", "\t"])
def test_what_is_no_scenario_is_refused(text: str) -> None:
    assert _refusal(text).startswith("f.yaml")


def test_a_source_is_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    place = tmp_path / "own.yaml"
    text = "{name: own, duration: 1s, faults: [{probe.custom: {source: %s}}]}"
    for source, found in (("probes/a.c", f"{tmp_path}/probes/a.c"), ("/etc/a.c", "/etc/a.c")):
        place.write_text(text % source, "utf-8")
        assert load(str(place), {}).faults[0].fault.executes == found
    assert single("probe.custom", {"source": "a.c"}, "pid:5", "1s", None).faults[0].fault.executes == "a.c"


def test_a_scenario_that_is_not_there() -> None:
    with pytest.raises(ChaosdError, match="did you mean network-latency"):
        load("network-latncy", {})
    with pytest.raises(ChaosdError, match="no such file"):
        load("./nothing.yaml", {})


@pytest.mark.parametrize("name", sorted(library()))
def test_the_library_is_valid_and_says_what_a_healthy_system_does(name: str) -> None:
    found = load(name, {})
    assert found.name == name
    assert found.category == library()[name].parent.name
    assert "healthy" in found.description
    assert found.faults
    rungs = [rung for step in found.faults for rung in step.fault.mechanisms]
    launched = all(rung.launched for rung in rungs)  # before its command is started no state is steady
    assert bool(found.steady_state) != launched
    text = library()[name].read_text("utf-8")
    assert ("abort_when:" in text) != launched
    assert not [key for key in found.parameters if f"${{{key}}}" not in text]
    assert launched or {"url", "from", "within"} <= found.parameters.keys()


def test_the_library_has_what_was_promised() -> None:
    found = library()
    assert not [name for names in PROMISED.values() for name in names.split() if name not in found]
    others = found.keys() - {name for names in PROMISED.values() for name in names.split()}
    assert len(others) >= 15


def test_inject_needs_the_fault_to_be_right() -> None:
    made = single("cpu.throttle", {"percent": "20%"}, "pid:5", "10s", 7)
    assert (made.duration, made.target, made.seed) == (10, "pid:5", 7)
    with pytest.raises(ChaosdError, match=r"percent: '200000%' is over"):
        single("cpu.throttle", {"percent": "200000%"}, "pid:5", "10s", None)


_words = st.sampled_from(
    [
        "name", "duration", "faults", "target", "parameters", "steady_state", "abort_when", "blast_radius",
        "cpu.throttle", "network.delay", "percent", "delay", "10s", "-1s", "20%", "101%", "${x}", "http", "tcp",
        "url", "p95 > 1s for 2s", "seed", "pid:1", "host", "", "~", "&a", "*a",
    ]
) | st.text(max_size=6)  # fmt: skip
_leaves = _words | st.integers() | st.floats() | st.booleans() | st.none()
_trees = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=25,
)


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(_words, _trees, max_size=8))
def test_no_document_gives_a_traceback(data: dict[str, object]) -> None:
    try:
        parse(yaml.safe_dump(data), "f", {})
    except ChaosdError as error:
        assert error.message


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_no_text_gives_a_traceback(text: str) -> None:
    try:
        parse(text, "f", {})
    except ChaosdError as error:
        assert error.message


def test_the_longest_run_is_half_an_hour() -> None:
    assert scenarios.LONGEST == 1800
    assert Path(scenarios.find("network-latency")).is_file()
