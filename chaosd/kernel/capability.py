"""What this kernel can do, found out by trying in a scratch namespace, never by version.

A capability is a function that tries; its verdict is kept for the life of the process. What a
kernel has shown that it can do, it can do until the next boot: such a proof is kept in the state
directory, so that the next command starts at once; the run directory holds only what is going on.
What was missing is tried anew, for it may have been mended; so is what depends on more than the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import msgspec

from chaosd import __version__
from chaosd.places import boot_id, state_dir


class Verdict(msgspec.Struct, frozen=True):
    """Whether it works here; if not, ``reason`` is what the kernel said and ``mend`` what would help."""

    ok: bool
    reason: str = ""
    mend: str = ""


def _ledger() -> str:
    return str(state_dir() / "proven")


def _proven() -> set[str]:
    with suppress(OSError):
        with open(_ledger(), encoding="ascii") as file:
            of, *names = file.read().split()
        return set(names) if of == _here() else set()
    return set()


def _here() -> str:
    return f"{__version__}/{boot_id()}"


def _remember(name: str, ok: bool) -> None:
    known = _proven()
    if ok is (name in known):
        return
    part = f"{_ledger()}.{os.getpid()}"
    with suppress(OSError):  # where nothing can be kept, the next command tries again
        state_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(part, "w", encoding="ascii") as file:
            file.write("\n".join([_here(), *sorted(known | {name} if ok else known - {name})]))
        os.replace(part, _ledger())


class Capability:
    """One thing a kernel or host may be able to do.

    Args:
        name: the short name that skips, ``doctor`` and ``CHAOSD_REQUIRE`` use.
        attempt: tries it and leaves nothing behind.
        lasting: it depends on the running kernel alone, so that a proof holds until the next boot.
    """

    def __init__(self, name: str, attempt: Callable[[], Verdict], *, lasting: bool = False) -> None:
        self.name = name
        self._attempt = attempt
        self._lasting = lasting
        self._verdict: Verdict | None = None

    def __call__(self) -> Verdict:
        """Whether it works here; tried at most once a process."""
        if self._verdict is None:
            known = self._lasting and self.name in _proven()
            self._verdict = Verdict(ok=True) if known else self.attempt()
        return self._verdict

    @property
    def known(self) -> bool:
        """Whether it can be told without trying."""
        return self._verdict is not None or (self._lasting and self.name in _proven())

    def attempt(self) -> Verdict:
        """Try it now, whatever is known already."""
        self._verdict = self._attempt()
        if self._lasting:
            with suppress(OSError):  # the run directory may not be ours to write
                _remember(self.name, self._verdict.ok)
        return self._verdict

    def __or__(self, other: Capability) -> Capability:
        """The one or the other; what is missing is said of both."""

        def attempt() -> Verdict:
            verdicts = [self.attempt(), other.attempt()]
            if any(verdict.ok for verdict in verdicts):
                return Verdict(ok=True)
            reason = ", and ".join(dict.fromkeys(verdict.reason for verdict in verdicts))
            return Verdict(ok=False, reason=reason, mend=", or ".join(verdict.mend for verdict in verdicts))

        return _Either(f"{self.name} or {other.name}", attempt, (self, other))

    def __repr__(self) -> str:
        return f"Capability({self.name!r})"


class _Either(Capability):
    """Two that serve alike."""

    def __init__(self, name: str, attempt: Callable[[], Verdict], parts: tuple[Capability, ...]) -> None:
        super().__init__(name, attempt)
        self._parts = parts

    def __call__(self) -> Verdict:
        if any(part().ok for part in self._parts):
            return Verdict(ok=True)
        return super().__call__()


def capability(name: str, *, lasting: bool = False) -> Callable[[Callable[[], Verdict]], Capability]:
    """Make a capability of the function that tries it; see ``Capability``."""
    return lambda attempt: Capability(name, attempt, lasting=lasting)
