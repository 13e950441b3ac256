"""What clients of the API may send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chaosd.errors import ChaosdError

_Target = Annotated[str | None, Meta(description="what to aim at, such as container:api")]
_Length = Annotated[str | None, Meta(description="how long the faults last, such as 30s")]
_Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1, description="of every random choice")]
_Settings = Annotated[dict[str, Any], Meta(description="values of the scenario's parameters")]
_Everywhere = Annotated[bool, Meta(description="this may reach the entire system")]
_Run = Annotated[str, Meta(pattern="^[0-9a-f]{6}$", description="its id; the only one if not given")]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Nothing(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An empty body."""


class _Aimed(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    target: _Target = None
    duration: _Length = None
    seed: _Seed | None = None
    set: _Settings = {}

    def own(self) -> dict[str, Any]:
        """What is set besides parameters."""
        given = {"target": self.target, "duration": self.duration, "seed": self.seed}
        return {key: value for key, value in given.items() if value is not None}


class _Settled(_Aimed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    yes_entire_system: _Everywhere = False


class Order(_Settled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scenario with its settings: ``scenario`` names one that comes with chaosd, or ``text`` is one."""

    scenario: Annotated[str, Meta(description="name of a scenario that comes with chaosd")] = ""
    text: Annotated[str, Meta(description="a scenario in YAML, instead")] = ""
    on_restart: Annotated[
        Literal["end", "follow"] | None, Meta(description="what becomes of the run when its target ends")
    ] = None
    folder: Annotated[str, Meta(description="of text: where relative sources of probes are looked for")] = ""

    def prepared(self) -> dict[str, Any]:
        """The same for the zygote (``ChaosdError`` unless it is one of the two)."""
        _one_of(scenario=self.scenario, text=self.text)
        restart = {"on_restart": self.on_restart} if self.on_restart else {}
        return {
            "scenario": self.scenario,
            "text": self.text,
            "folder": self.folder,
            "overrides": self.set | self.own() | restart,
            "confirmed": self.yes_entire_system,
        }


class SuiteOrder(_Settled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many scenarios, one after the other: all of a ``category``, or those of a suite that ``text`` is."""

    category: Annotated[str, Meta(description="of scenarios that come with chaosd, or all")] = ""
    text: Annotated[str, Meta(description="a suite in YAML, instead")] = ""
    files: Annotated[
        dict[str, str],
        Meta(description="scenarios in YAML that the suite names and that do not come with chaosd"),
    ] = {}
    pause: Annotated[str | None, Meta(description="between two runs, such as 5s")] = None
    on_failure: Annotated[Literal["continue", "stop"] | None, Meta(description="when a run fails")] = None

    def prepared(self) -> dict[str, Any]:
        """The same for the zygote (``ChaosdError`` unless it is one of the two)."""
        _one_of(category=self.category, text=self.text)
        return {
            "category": self.category,
            "text": self.text,
            "files": self.files,
            "overrides": self.own(),
            "settings": self.set,
            "pause": self.pause,
            "on_failure": self.on_failure,
            "confirmed": self.yes_entire_system,
        }


class ScheduleOrder(_Aimed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule: ``scenario`` names one that comes with chaosd, or ``text`` is one, which is kept."""

    name: Annotated[str, Meta(description="of the schedule")]
    cron: Annotated[str, Meta(description="minute, hour, day, month, day of the week; seconds may go first")]
    scenario: Annotated[str, Meta(description="name of a scenario that comes with chaosd")] = ""
    text: Annotated[str, Meta(description="a scenario in YAML, instead")] = ""
    timezone: Annotated[str | None, Meta(description="such as Europe/Berlin, if not the host's own")] = None
    jitter: Annotated[str | None, Meta(description="each run is put off by some part of this")] = None
    missed: Annotated[Literal["skip", "run-once"] | None, Meta(description="of runs that were due")] = None

    def prepared(self) -> dict[str, Any]:
        """The same for the zygote (``ChaosdError`` unless it is one of the two)."""
        _one_of(scenario=self.scenario, text=self.text)
        when = {"timezone": self.timezone, "jitter": self.jitter, "missed": self.missed}
        given = {key: value for key, value in when.items() if value is not None} | self.own()
        data = {"cron": self.cron, "scenario": self.scenario, **given}
        return {
            "name": self.name,
            "text": self.text,
            "data": data | ({"set": self.set} if self.set else {}),
        }


class Which(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live run, whoever has started it, or all of them."""

    run: _Run | None = None
    all: Annotated[bool, Meta(description="every run")] = False


class Revert(Which, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to put back."""

    scrub: Annotated[bool, Meta(description="also remove leftovers that no journal knows")] = False


def _one_of(**given: str) -> None:
    if len([value for value in given.values() if value]) != 1:
        first, second = given
        raise ChaosdError(f"give either {first} or {second}", hint="see /docs")
