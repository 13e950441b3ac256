"""The monkey's choices, by a clock of the test's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chaosd.errors import ChaosdError
from chaosd.orchestrate import eligible
from chaosd.orchestrate.eligible import Candidate, Targets
from chaosd.orchestrate.entry import Entry
from chaosd.orchestrate.monkey import Config, Decision, Memory, decide, parse
from chaosd.orchestrate.monkeying import aimed
from chaosd.orchestrate.words import Days, Hours
from chaosd.units import Duration, Percent

TEXT = """
hours: "09:00-17:00"
days: mon-fri
timezone: Europe/Berlin
every: 1h
scenarios: [network-latency, cpu-throttling]
targets: {units: ["web-*.service"]}
"""
TARGETS = [Candidate(f"unit:web-{n}.service", (f"unit:web-{n}.service",)) for n in range(5)]
HOURS = st.integers(490_000, 500_000)  # ticks of an hour; some months of the years 2025 to 2027


def config(**changes: object) -> Config:
    return replace(parse(TEXT, "monkey.yaml", Path()), **changes)


def at(of: Config, tick: int, memory: Memory | None = None, targets: list[Candidate] = TARGETS) -> Decision:
    memory = memory or Memory(1)
    return decide(of, tick, of.begins(tick), memory, lambda: (targets, ""), lambda entry, word: "")


WHENEVER = {"hours": Hours("00:00-24:00"), "days": Days("mon-sun")}
ALWAYS = config(probability=Percent(100))


@settings(deadline=None)  # the machine may be busy
@given(HOURS)
def test_it_never_acts_outside_of_its_hours(tick: int) -> None:
    clock = datetime.fromtimestamp(ALWAYS.begins(tick), ALWAYS.timezone.info())
    inside = clock.weekday() < 5 and 9 <= clock.hour < 17
    assert (at(ALWAYS, tick).entry is not None) is inside
    assert inside or at(ALWAYS, tick).why == "outside hours"


def test_a_tick_that_is_dealt_with_late_goes_by_the_clock_of_then() -> None:
    tick = next(
        tick for tick in range(490_000, 490_200) if at(ALWAYS, tick).entry and at(ALWAYS, tick + 1).why
    )
    late = decide(
        ALWAYS, tick, ALWAYS.begins(tick + 1), Memory(1), lambda: (TARGETS, ""), lambda entry, word: ""
    )
    assert late.why == "outside hours"


@pytest.mark.parametrize("percent", [0, 5, 50, 100])
def test_it_is_drawn_as_often_as_was_asked(percent: int) -> None:
    """Of 100,000 ticks, within the 99 % interval of the binomial distribution."""
    of = config(probability=Percent(percent), **WHENEVER)
    ticks, p = 100_000, percent / 100
    drawn = sum(at(of, tick).why != "not drawn" for tick in range(ticks))
    assert abs(drawn - ticks * p) <= 2.576 * (ticks * p * (1 - p)) ** 0.5


@settings(deadline=None)  # the machine may be busy
@given(HOURS, st.integers(0, 2**32))
def test_equal_seeds_make_equal_choices_whatever_the_order_of_the_targets(tick: int, seed: int) -> None:
    assert at(ALWAYS, tick, Memory(seed)) == at(ALWAYS, tick, Memory(seed), TARGETS[::-1])


def test_other_seeds_make_other_choices_and_every_choice_comes() -> None:
    tick = next(tick for tick in range(490_000, 490_200) if at(ALWAYS, tick).entry)
    chosen = [at(ALWAYS, tick, Memory(seed)) for seed in range(400)]
    pairs = {(each.entry.scenario, each.target) for each in chosen if each.entry}
    assert len(pairs) == 2 * len(TARGETS)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(490_000, 491_000), st.integers(2, 9), st.integers(0, 9))
def test_a_target_is_left_in_peace_while_it_cools_down(first: int, hours: int, seed: int) -> None:
    of, memory = replace(ALWAYS, cooldown=Duration(hours * 3600), **WHENEVER), Memory(seed)
    for tick in range(first, first + 40):
        decision = at(of, tick, memory, TARGETS[:2])
        if decision.entry:
            assert of.begins(tick) - memory.chosen.get(decision.target, 0) >= of.cooldown
            memory.chosen[decision.target] = of.begins(tick)
    assert len(memory.chosen) == 2


def test_a_tick_is_dealt_with_once_and_reasons_are_told() -> None:
    tick = next(tick for tick in range(490_000, 490_200) if at(ALWAYS, tick).entry)
    assert at(ALWAYS, tick, Memory(1, last_tick=tick)).why == "dealt with already"
    assert at(ALWAYS, tick, targets=[]).why == "no eligible target"
    resting = Memory(1, chosen={each.word: ALWAYS.begins(tick - 1) for each in TARGETS})
    assert at(ALWAYS, tick, resting).why == "every eligible target is cooling down"


def test_what_this_host_cannot_do_is_passed_over() -> None:
    tick = next(tick for tick in range(490_000, 490_200) if at(ALWAYS, tick).entry)

    def can(entry: Entry, word: str) -> str:
        return "" if (entry.scenario, word) == ("cpu-throttling", TARGETS[3].word) else "cannot"

    now = ALWAYS.begins(tick)
    chosen = decide(ALWAYS, tick, now, Memory(1), lambda: (TARGETS, ""), can)
    assert chosen.entry is not None
    assert (chosen.entry.scenario, chosen.target) == ("cpu-throttling", TARGETS[3].word)
    nothing = decide(ALWAYS, tick, now, Memory(1), lambda: (TARGETS, ""), lambda *_: "cannot")
    assert nothing.why == "nothing can be done: cannot"


def test_a_scenario_reaches_one_service_at_most_and_what_was_chosen() -> None:
    scenario = aimed(Entry(scenario="network-latency"), "pid:1234", 5)
    assert (scenario.target, scenario.blast_radius, scenario.seed) == ("pid:1234", "single-service", 5)


def test_a_wide_scenario_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(
        "name: wide\nduration: 1s\nblast_radius: entire-system\nfaults: [process.pause]\n", "utf-8"
    )
    assert aimed(Entry(scenario=str(tmp_path / "wide.yaml")), "host", 5).blast_radius == "single-service"


OWN = "name: own\nduration: 1s\nfaults: [{process.pause: {target: 'pid:1'}}]\n"
BAD = (
    ("hours: 9-17", "monkey.yaml:1: hours: '9-17' are not hours"),
    ("days: monday", "'monday' are not days"),
    ("every: 100ms", "every: 100ms is too short (at least 1s)"),
    ('every: 24h\nhours: "09:00-17:00"\ntimezone: UTC', "and never within the hours (such as every: 1h)"),
    ("probability: 101%", "over 100%"),
    ("scenarios: [own.yaml]", "own.yaml has targets of its own"),
    ("scenarios: [network-latenc]", "did you mean network-latency?"),
    ("scenarios: [{cpu-throttling: {target: 'pid:5'}}]", "has targets of its own"),
    ("categories: [netwrok]", "did you mean network?"),
    ("targets: {units: []}", "targets: names nothing"),
    ("targets: {container: {label: a}}", "targets.container: unknown key (did you mean containers?)"),
    ("targets: {containers: {lable: a}}", "did you mean label?"),
    ("set: {dleay: 1s}\nscenarios: [network-latency]", "no chosen scenario has a parameter 'dleay'"),
    ("probabilty: 5%", "did you mean probability?"),
)


@pytest.mark.parametrize(("line", "says"), BAD, ids=[line for line, _ in BAD])
def test_a_wrong_configuration_is_refused_in_words(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "own.yaml").write_text(OWN, "utf-8")
    rest = "" if "targets" in line else "targets: {units: [a]}\n"
    rest += "" if "scenarios" in line else "scenarios: [cpu-throttling]\n"
    with pytest.raises(ChaosdError) as refused:
        parse(f"{line}\n{rest}", "monkey.yaml", tmp_path)
    assert says in str(refused.value)


def test_what_cannot_be_undone_is_chosen_by_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "deadly" / "kill.yaml"
    place.parent.mkdir()
    place.write_text("name: kill\nduration: 1s\nfaults: [process.kill]\n", "utf-8")
    monkeypatch.setattr("chaosd.scenario.library", lambda: {"kill": place})
    end = "targets: {comm: [a]}\n"
    with pytest.raises(ChaosdError, match="names no scenario"):
        parse(f"categories: [deadly]\n{end}", "monkey.yaml", tmp_path)
    assert parse(f"scenarios: [kill]\n{end}", "monkey.yaml", tmp_path).entries == (Entry(scenario="kill"),)


def test_hosts_spare_what_their_files_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOSD_CONFIG_DIR", str(tmp_path))
    (tmp_path / "spared.d").mkdir()
    (tmp_path / "spared.d" / "database.conf").write_text(
        "# ours\nunit:db-*  # all of them\n\ncomm:redis\n", "utf-8"
    )
    assert eligible.spared_by_host() == ["unit:db-*", "comm:redis"]
    (tmp_path / "spared.d" / "broken.conf").write_bytes(b"\xff")
    with pytest.raises(ChaosdError, match=r"broken\.conf: cannot be read"):
        eligible.find(Targets(comm=["x"]), [])
