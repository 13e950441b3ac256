"""A run with a probe of the user's, killed: the kernel lets go of it, and of everything that it was given.

Each case compiles it, so there are few.
"""

from __future__ import annotations

import pytest
import world
from test_crash import Host, host, same

from chaosd.kernel.custom_child import BCC
from chaosd.scenario import library

__all__ = ["host"]  # a fixture

PROBE = library()["settings-unreadable"].parent / "probes/open_fails.c"
CASES = [
    ("engine", "promised"),
    ("engine", "done"),
    ("engine", "undo"),
    ("both", "applied"),
    ("watchdog", "done"),
]


@pytest.mark.parametrize(("who", "point"), CASES)
@pytest.mark.timeout(900)
def test_sigkill_with_a_probe_attached(host: Host, who: str, point: str) -> None:
    world.need(BCC)
    before = host.settled()
    words = ["probe.custom", f"source={PROBE}", "parameters={name: nothing, errno: EIO}"]
    words += ["--target", f"pid:{host.pids[0]}", "--duration", "1s"]
    said = host.start(who, point, 0, "inject", *words, "--json").communicate(timeout=800)
    assert host.struck.exists(), said
    if who == "both":
        assert host.live(), "nobody was left to put anything back"
        assert host.chaosd("revert", "--all").returncode == 0
    world.until(lambda: not host.live(), f"the run was not closed: {said}", 60)
    host.alone("a helper outlived its engine")
    same(host, before)
