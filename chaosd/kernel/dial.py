"""Limits that are tightened little by little, between where they begin to be felt and what is wanted."""

from __future__ import annotations

import re

strengths: dict[str, float] = {}
"""How tight each limit of this process is to be, by the slot of its edit; as planned where there is none."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def turn(slot: str, strength: float) -> bool:
    """Set how tight a limit is to be, in steps of 5 %; whether that is another than before.

    Each write gives the target something: a CPU quota is dealt out anew (tg_set_cfs_bandwidth(),
    kernel/sched/core.c), and of systemd it takes a call.
    """
    strength = round(strength * 20) / 20
    changed = strengths.get(slot, 1.0) != strength
    strengths[slot] = strength
    return changed


def wanted(slot: str, loose: str, tight: str) -> str:
    """The value that a limit is to have now."""
    strength = strengths.get(slot, 1.0)
    return between(loose, tight, strength) if loose and strength < 1 else tight


def between(loose: str, tight: str, strength: float) -> str:
    """A value on the way from ``loose`` (strength 0) to ``tight`` (1): the first number in it moves.

    Both are such as ``20000 100000``, ``20%`` or ``1048576``.
    """
    low, high = _first(loose), _first(tight)
    value = low + (high - low) * strength
    return _NUMBER.sub(f"{value:.10g}" if "." in tight or "%" in tight else str(round(value)), tight, count=1)


def lies_between(value: str, loose: str, tight: str) -> bool:
    """Whether ``between`` can have made a value."""
    rest = _NUMBER.sub("", value, count=1) == _NUMBER.sub("", tight, count=1)
    if not rest or not _NUMBER.match(value):
        return False
    low, high = sorted((_first(loose), _first(tight)))
    return low <= _first(value) <= high


def _first(text: str) -> float:
    found = _NUMBER.match(text)
    assert found is not None, text
    return float(found[0])
