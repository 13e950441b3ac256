"""What is worth telling of a run to those who were not there: a fold over its journal's records.

Who writes a journal tells that of systemd the same, be it an engine, alone or of the daemon, a watchdog, or
``chaosd revert``. The daemon tells a webhook. docs/events.md has the kinds and their fields.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from chaosd import journald

Kind = Literal[
    "run-begun",
    "fault-live",
    "threshold-breached",
    "reverting",
    "edit-stuck",
    "host-restored",
    "host-not-restored",
    "recovered",
    "run-ended",
    "schedule",
    "monkey",
]
"""What can be told of."""

MESSAGE_IDS: dict[Kind, str] = {
    "run-begun": "2447f667988741e7bd70804e525be170",
    "fault-live": "1da7f30f702f4851b8af477ba3f7f0d2",
    "threshold-breached": "ba181d56bf6545d6bdcafd0d4eee4880",
    "reverting": "49f8b7a2f115486da213802d35f06af0",
    "edit-stuck": "a832790d8e784bff9a43cb171ddccabe",
    "host-restored": "c6ca52bf4a5347188781901ed9acb484",
    "host-not-restored": "0ab913274f9c4042a184e610c633eef7",
    "recovered": "cb0b6f3837a24a5cb1160caafd1f512e",
    "run-ended": "dda9777df45b4d11b90fa07cfcee499b",
    "schedule": "7c5158670d7a46e58c394cf34608d401",
    "monkey": "5397b6ade9e249d7aa74f69a9daff8b9",
}
"""The ``MESSAGE_ID`` of each kind (sd_journal_print(3)); they never change."""

_CRITICAL, _ERROR, _WARNING, _NOTICE, _INFO = 2, 3, 4, 5, 6  # syslog(3)
_WELL = ("passed", "begun")

Record = dict[str, Any]
Value = str | float | list[str]


class Event(msgspec.Struct, frozen=True):
    """Something that happened.

    ``at`` is Unix time, ``priority`` one of syslog(3), from 2 (critical) to 6 (informational); what is in
    ``more`` depends on the kind.
    """

    kind: Kind
    at: float
    message: str
    priority: int
    run: str = ""
    scenario: str = ""
    more: dict[str, Value] = {}


class Story:
    """The events of one run, from its records in their order."""

    def __init__(self) -> None:
        self._run = self._scenario = ""
        self._thresholds: list[str] = []

    def add(self, record: Record) -> Event | None:
        """Take one more record into account; what there is to tell of it, if anything."""
        teller = getattr(self, f"_on_{record['type']}", None)
        return teller(record) if teller is not None else None

    def _event(self, kind: Kind, record: Record, says: str, priority: int, **more: Value) -> Event:
        message = f"run {self._run} ({self._scenario}): {says}"
        return Event(kind, record["at"], message, priority, self._run, self._scenario, more)

    def _on_run(self, record: Record) -> Event:
        plan = record["plan"]
        self._run, self._scenario = record["run"], record["scenario"]
        self._thresholds = plan.get("abort_when", [])
        faults = [fault["fault"] for fault in plan.get("faults", ())]
        targets = list(dict.fromkeys(fault["target"] for fault in plan.get("faults", ())))
        says = f"begins: {', '.join(faults)} on {', '.join(targets)}"
        return self._event("run-begun", record, says, _NOTICE, faults=faults, targets=targets)

    def _on_phase(self, record: Record) -> Event | None:
        if record["phase"] == "fault":
            return self._event("fault-live", record, "the fault is live", _NOTICE)
        if record["phase"] == "revert":
            return self._event("reverting", record, "everything is put back", _INFO)
        return None

    def _on_ending(self, record: Record) -> Event | None:
        reason = record["reason"]
        crossed = next((each for each in self._thresholds if reason.startswith(f"{each}:")), "")
        if record["verdict"] != "aborted" or not crossed:
            return None
        return self._event("threshold-breached", record, f"aborted: {reason}", _WARNING, threshold=crossed)

    def _on_stuck(self, record: Record) -> Event:
        says = f"a change could not be put back yet: {record['error']}"
        return self._event("edit-stuck", record, says, _ERROR, error=record["error"])

    def _on_restored(self, record: Record) -> Event:
        took = {"took": record["took"]} if "took" in record else {}
        if stuck := record.get("stuck"):
            says = f"the host is NOT as before: {'; '.join(stuck)}"
            return self._event("host-not-restored", record, says, _CRITICAL, stuck=stuck, **took)
        if differs := record.get("differs"):
            says = f"everything is put back, but other than before: {', '.join(differs)}"
            return self._event("host-not-restored", record, says, _ERROR, differs=differs, **took)
        says = f"the host is as before, {record.get('compared', 0)} readings compared"
        return self._event("host-restored", record, says, _INFO, **took)

    def _on_recovered(self, record: Record) -> Event:
        says = f"the steady state is back after {record['took']:.2f} s"
        return self._event("recovered", record, says, _INFO, took=record["took"])

    def _on_end(self, record: Record) -> Event:
        verdict, reason = record["verdict"], record["reason"]
        severe = _CRITICAL if verdict == "not-restored" else _WARNING
        return self._event(
            "run-ended",
            record,
            f"{verdict}: {reason}" if reason else verdict,
            _NOTICE if verdict in _WELL else severe,
            verdict=verdict,
            reason=reason,
        )


def of_schedule(record: Record) -> Event:
    """What became of a due time.

    Args:
        record: ``schedule`` is its name, if its file can be read; ``says`` tells it in words, ``outcome`` is
            ``begun``, ``missed``, ``busy``, ``refused``, ``unreadable`` or the verdict of the run; ``at`` and
            ``run`` are as in an event.
    """
    name, outcome = record.get("schedule", ""), record["outcome"]
    priority = _NOTICE if outcome in _WELL else _WARNING
    says = f"schedule {name}: {record['says']}" if name else record["says"]
    more: dict[str, Value] = {"schedule": name, "outcome": outcome}
    return Event("schedule", record["at"], says, priority, record.get("run", ""), more=more)


def of_monkey(record: Record) -> Event:
    """What the monkey has decided at a tick.

    Args:
        record: ``scenario`` is what it runs, on ``target``; else ``why_not`` says why it does nothing.
    """
    scenario, why_not = record.get("scenario", ""), record.get("why_not", "")
    says = f"monkey: {scenario} on {record['target']}" if scenario else f"monkey: rests, {why_not}"
    more: dict[str, Value] = {"target": record.get("target", ""), "why_not": why_not}
    return Event("monkey", time.time(), says, _NOTICE if scenario else _INFO, "", scenario, more)


def log(event: Event) -> None:
    """Tell the journal of systemd, where there is one."""
    fields: dict[str, str | float] = {
        "MESSAGE": event.message,
        "MESSAGE_ID": MESSAGE_IDS[event.kind],
        "PRIORITY": event.priority,
        "SYSLOG_IDENTIFIER": "chaosd",
        "CHAOSD_EVENT": event.kind,
        "CHAOSD_RUN": event.run,
        "CHAOSD_SCENARIO": event.scenario,
    }
    more = {f"CHAOSD_{key.upper()}": _word(value) for key, value in event.more.items()}
    journald.send({name: value for name, value in (fields | more).items() if value != ""})


def _word(value: Value) -> str | float:
    return ", ".join(value) if isinstance(value, list) else value
