"""Lets the monkey loose on a demo for a minute; first it says what it would do.

python tools/monkey.py [--seconds S]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from embedded import FOLDER, SEED, aim, busy, chaosd, fields, write

from chaosd.demo import Demo, DemoError, Settings
from chaosd.errors import Exit
from chaosd.scenario import library, load

_TITLE = "monkey"
_EVERY = 10  # seconds: enough for a run


def main() -> int:
    """Run it; 0 if no run has left anything behind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    seconds: float = parser.parse_args().seconds
    with busy(Settings(pool_age=0.1, title=_TITLE)) as d:
        file = write(FOLDER / "monkey.yaml", _config(d))
        status = chaosd("monkey", file, "--dry-run", "--ticks", str(max(int(seconds / _EVERY), 1)))
        if status:
            return status
        status = chaosd("monkey", file, seconds=seconds)
    return 0 if status == Exit.INTERRUPTED else status  # the end of its time may fall into a run


def _config(d: Demo) -> dict[str, Any]:
    return {
        "hours": "00:00-24:00",
        "days": "mon-sun",
        "every": f"{_EVERY}s",
        "probability": "90%",
        "cooldown": 0,
        "seed": SEED,
        "targets": {"comm": [f"{_TITLE}-booking"]},
        "scenarios": [{name: _entry(name, d)} for name in _fitting()],
    }


def _fitting() -> list[str]:
    """What hits the booking service and can be undone."""
    found = [load(name, {}) for name in library()]
    return [
        each.name
        for each in found
        if aim(each.name, each.category).service == "booking"
        and not any(step.fault.irreversible for step in each.faults)
    ]


def _entry(name: str, d: Demo) -> dict[str, Any]:
    scenario = load(name, {})
    aimed = fields(name, scenario.category, scenario.parameters, d)
    return {"set": aimed["set"], "duration": "3s"}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DemoError as error:
        sys.exit(f"monkey: {error}")
