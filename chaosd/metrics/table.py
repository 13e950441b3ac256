"""Every metric that there is; docs/metrics.md is made from this."""

from __future__ import annotations

from typing import Literal, NamedTuple

_REVERT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECOVERY = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metric(NamedTuple):
    """One metric; a histogram has the upper bounds of its buckets."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = {
    "experiments_running": Metric("gauge", "Runs that go on now.", ("scenario",)),
    "experiments_started_total": Metric("counter", "Runs that began.", ("scenario",)),
    "experiments_total": Metric("counter", "Runs that are closed.", ("scenario", "verdict")),
    "experiments_breached_total": Metric("counter", "Runs that a threshold ended.", ("scenario",)),
    "experiments_recovery_seconds": Metric(
        "histogram", "From the end of the faults until the steady state was back.", buckets=_RECOVERY
    ),
    "experiments_last_ended_timestamp_seconds": Metric(
        "gauge", "When the newest run was over.", ("scenario",)
    ),
    "experiments_last_recovery_seconds": Metric(
        "gauge", "Time to recovery in the newest run that had one.", ("scenario",)
    ),
    "experiments_last_availability_ratio": Metric(
        "gauge", "Good probes of the steady state during the faults of the newest run.", ("scenario",)
    ),
    "experiments_last_score": Metric("gauge", "Resilience score of the newest run, 0 to 100.", ("scenario",)),
    "chaos_faults_active": Metric("gauge", "Faults in force now.", ("fault",)),
    "chaos_faults_total": Metric("counter", "Faults that came into force.", ("fault", "mechanism")),
    "chaos_matched_total": Metric("counter", "Events that a fault was meant for.", ("fault", "unit")),
    "chaos_injected_total": Metric("counter", "Events that got a fault.", ("fault", "unit")),
    "chaos_edits_open": Metric("gauge", "Changes to this host that are not put back yet."),
    "chaos_edits_stuck": Metric("gauge", "Those of them whose run is over, or whose engine is dead."),
    "chaos_overdue_seconds": Metric(
        "gauge", "For how long a run has been over its time without everything put back."
    ),
    "chaos_revert_seconds": Metric("histogram", "How long an engine took to put all back.", buckets=_REVERT),
    "chaos_residues_total": Metric(
        "counter", "Found when all was put back: readings that differ, changes that are foreign.", ("kind",)
    ),
    "chaos_schedule_runs_total": Metric("counter", "What became of due times.", ("schedule", "outcome")),
    "chaos_schedule_passed": Metric("gauge", "Whether the newest due time led to a pass.", ("schedule",)),
    "chaos_schedule_problems": Metric("gauge", "Files of schedules that cannot be read."),
    "chaos_monkey_decisions_total": Metric("counter", "Ticks of the monkey.", ("decision",)),
    "chaos_monkey_paused": Metric("gauge", "Whether the monkey rests."),
    "chaos_webhook_events_total": Metric("counter", "Events for the webhook.", ("outcome",)),
    "chaos_webhook_queued": Metric("gauge", "Events that the webhook has still to be sent."),
    "chaos_build_info": Metric("gauge", "Always 1.", ("version",)),
}
"""Every metric by its name."""

FROM_THE_START = {
    "chaos_residues_total": ("differs", "foreign"),
    "chaos_monkey_decisions_total": ("acts", "rests", "refused"),
    "chaos_webhook_events_total": ("delivered", "failed", "dropped"),
}
"""Values of a label whose series are there from the start: where one begins, Prometheus sees no increase."""
