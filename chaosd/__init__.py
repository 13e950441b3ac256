"""Fault injection for Linux hosts, with everything put back afterwards.

What programs use is imported when it is used, so that importing this costs next to nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chaosd.embed.calls import available, dry_run, inject, run, running
    from chaosd.embed.run import Run
    from chaosd.errors import (
        BusyError,
        ChaosdError,
        EndedEarlyError,
        NotRestoredError,
        TargetLostError,
        UnsupportedError,
    )

__version__ = "0.1.0"

_PLACES = {
    "chaosd.embed.calls": ("available", "dry_run", "inject", "run", "running"),
    "chaosd.embed.run": ("Run",),
    "chaosd.errors": (
        "BusyError",
        "ChaosdError",
        "EndedEarlyError",
        "NotRestoredError",
        "TargetLostError",
        "UnsupportedError",
    ),
}

__all__ = [
    "BusyError",
    "ChaosdError",
    "EndedEarlyError",
    "NotRestoredError",
    "Run",
    "TargetLostError",
    "UnsupportedError",
    "available",
    "dry_run",
    "inject",
    "run",
    "running",
]


def __getattr__(name: str) -> object:
    place = next((place for place, names in _PLACES.items() if name in names), None)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(place), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
