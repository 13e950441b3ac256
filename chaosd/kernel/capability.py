"""What this kernel can do, found out by trying in a scratch namespace, never by version.

A capability is a function that tries; its verdict is kept for the life of the process.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """Whether it works here; if not, ``reason`` is what the kernel said and ``mend`` what would help."""

    ok: bool
    reason: str = ""
    mend: str = ""


class Capability:
    """One thing a kernel or host may be able to do.

    Args:
        name: the short name that skips, ``doctor`` and ``CHAOSD_REQUIRE`` use.
        attempt: tries it and leaves nothing behind.
    """

    def __init__(self, name: str, attempt: Callable[[], Verdict]) -> None:
        self.name = name
        self._attempt = attempt
        self._verdict: Verdict | None = None

    def __call__(self) -> Verdict:
        if self._verdict is None:
            self._verdict = self._attempt()
        return self._verdict

    def __repr__(self) -> str:
        return f"Capability({self.name!r})"


def capability(name: str) -> Callable[[Callable[[], Verdict]], Capability]:
    """Make a capability of the function that tries it."""
    return lambda attempt: Capability(name, attempt)
