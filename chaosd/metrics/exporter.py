"""Metrics as Prometheus reads them, folded from what is seen of runs."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping

import prometheus_client as client
from prometheus_client.exposition import choose_encoder

from chaosd import __version__
from chaosd.metrics.seen import Seen
from chaosd.metrics.table import FROM_THE_START, METRICS
from chaosd.verdict import VERDICTS

MOST = 100
"""Distinct values that a label has, for scenarios are named by users; what comes later is ``other``."""
_LONGEST = 80  # characters of a value
_ALL_VERDICTS = (*VERDICTS, "killed")  # the last is what a watchdog writes

Values = Mapping[tuple[str, ...], float]


class Exporter:
    """Counts from 0 on; each end of a run is to be taken once."""

    def __init__(self) -> None:
        client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = client.CollectorRegistry()
        client.ProcessCollector(registry=self._registry)
        self._names: dict[str, set[str]] = defaultdict(set)
        self._levels: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._live: dict[str, Seen] = {}
        self._counters: dict[str, client.Counter] = {}
        self._gauges: dict[str, client.Gauge] = {}
        self._histograms: dict[str, client.Histogram] = {}
        for name in METRICS:
            self._make(name)
        self.level("chaos_build_info", {(__version__,): 1})

    def _make(self, name: str) -> None:
        kind, text, labels, buckets = METRICS[name]
        if kind == "counter":
            self._counters[name] = client.Counter(name, text, labels, registry=self._registry)
        elif kind == "gauge":
            self._gauges[name] = client.Gauge(name, text, labels, registry=self._registry)
        else:
            self._histograms[name] = client.Histogram(name, text, buckets=buckets, registry=self._registry)
        for value in FROM_THE_START.get(name, ()):
            self.count(name, value, by=0)

    def text(self, accepts: str) -> tuple[bytes, str]:
        """Everything, in the newest of Prometheus' formats that the client accepts, and its media type."""
        encode, kind = choose_encoder(accepts)
        return encode(self._registry), kind

    def count(self, name: str, *values: str, by: float = 1.0) -> None:
        """Count something under the values of its labels."""
        metric = self._counters[name]
        (metric.labels(*self._bounded(name, values)) if values else metric).inc(by)

    def level(self, name: str, values: Values) -> None:
        """Say how high something stands; under labels that are not named any more, it is 0."""
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for labels, value in values.items():
            found[self._bounded(name, labels)] += value
        self._levels[name] |= found.keys()
        for labels in self._levels[name]:
            self._put(name, labels, found[labels])

    def _put(self, name: str, labels: tuple[str, ...], value: float) -> None:
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def newest(self, name: str, label: str, value: float | None) -> None:
        """Put down a figure of the newest run, if there is one."""
        if value is not None:
            self._put(name, self._bounded(name, (label,)), value)

    def take(self, seen: Iterable[Seen]) -> None:
        """Take a look at all runs that are live, and those that were closed since the last one."""
        seen = list(seen)
        live = [each for each in seen if not each.closed]
        for each in sorted(seen, key=lambda each: each.over):
            self._follow(each)
        self._live = {each.run: each for each in live}
        self.level("experiments_running", Tally((each.scenario,) for each in live if each.alive))
        self.level("chaos_faults_active", Tally((fault,) for each in live for fault in each.active))
        dead = [each for each in live if not each.alive or each.verdict]
        self.level("chaos_edits_open", {(): sum(each.open_edits for each in live)})
        self.level("chaos_edits_stuck", {(): sum(each.open_edits for each in dead)})
        self.level("chaos_overdue_seconds", {(): max((each.overdue for each in live), default=0.0)})

    def _follow(self, seen: Seen) -> None:
        before = self._live.get(seen.run)
        if before is None:
            self.count("experiments_started_total", seen.scenario)
            self.count("experiments_breached_total", seen.scenario, by=0)
            for verdict in _ALL_VERDICTS:
                self.count("experiments_total", seen.scenario, verdict, by=0)
        self._count_events(seen, before)
        if seen.closed:
            self._close(seen)

    def _count_events(self, seen: Seen, before: Seen | None) -> None:
        totals, counted = (_totals(each) for each in (seen, before))
        for (name, fault, unit), total in totals.items():
            self.count(name, fault, unit, by=max(total - counted[name, fault, unit], 0))
        begun = Tally(seen.faults)
        begun.subtract(before.faults if before else ())
        for (fault, mechanism), number in begun.items():
            self.count("chaos_faults_total", fault, mechanism, by=max(number, 0))

    def _close(self, seen: Seen) -> None:
        self.count("experiments_total", seen.scenario, seen.verdict or "unfinished")
        self.count("experiments_breached_total", seen.scenario, by=seen.breached)
        self.count("chaos_residues_total", "differs", by=seen.differs)
        self.count("chaos_residues_total", "foreign", by=seen.foreign)
        if seen.reverted_in is not None:
            self._histograms["chaos_revert_seconds"].observe(seen.reverted_in)
        if seen.recovered_after is not None:
            self._histograms["experiments_recovery_seconds"].observe(seen.recovered_after)
        self.newest("experiments_last_ended_timestamp_seconds", seen.scenario, seen.over)
        self.newest("experiments_last_recovery_seconds", seen.scenario, seen.recovered_after)
        self.newest("experiments_last_availability_ratio", seen.scenario, seen.availability)
        self.newest("experiments_last_score", seen.scenario, seen.score)

    def _bounded(self, name: str, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self._name, METRICS[name].labels, values))

    def _name(self, label: str, value: str) -> str:
        known = self._names[label]
        short = value[:_LONGEST]
        if short not in known and len(known) >= MOST:
            return "other"
        known.add(short)
        return short


def _totals(seen: Seen | None) -> Tally[tuple[str, str, str]]:
    found: Tally[tuple[str, str, str]] = Tally()
    for fault, unit, matched, injected in seen.evidence if seen else ():
        found["chaos_matched_total", fault, unit] += matched
        found["chaos_injected_total", fault, unit] += injected
    return found
