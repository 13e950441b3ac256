"""What this host can do, found out by trying, and what is left over on it."""

from __future__ import annotations

import os
from typing import Any

from chaosd.faults.base import registry
from chaosd.journal import live
from chaosd.kernel.leftovers import ours, strangers


def look() -> dict[str, Any]:
    """Everything that ``chaosd doctor`` shows, as data; tries in scratch namespaces and cgroups.

    Returns:
        ``kernel``; ``faults``, each with the ``mechanism`` this host would use (None if none works) and
        what is ``missing`` for each; the names of live ``runs``; and ``leftovers``: ``ours`` and ``others``.
    """
    runs = [path.stem for path in live()]
    return {
        "kernel": os.uname().release,
        "faults": [_fault(name) for name in registry()],
        "runs": runs,
        # what a run has made is no leftover; its journal knows it
        "leftovers": {"ours": [] if runs else [str(item) for item in ours()], "others": strangers()},
    }


def _fault(name: str) -> dict[str, Any]:
    fault = registry()[name]
    ladder = [mechanism for mechanism in fault.mechanisms if not mechanism.launched] or fault.mechanisms
    missing = {mechanism.name: mechanism.missing(anew=True) for mechanism in ladder}
    usable = [mechanism for mechanism, why in missing.items() if not why]
    chosen = usable if fault.combines else usable[:1]
    return {"fault": name, "mechanism": " + ".join(chosen) or None, "missing": missing}
