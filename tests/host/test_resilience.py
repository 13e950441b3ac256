"""The resilience suite: it finds the demo resilient, and each mechanism that is switched off missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from world import need

from chaosd import demo
from chaosd.demo import Settings
from chaosd.kernel.capability_network import CONNECT
from tools.resilience import verify

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
    pytest.mark.timeout(240),
]
NEEDS = {
    "retry": {"tries again, waiting longer"},
    "breaker": {"circuit breaker"},
    "cache": {"stays available", "error rate", "answers from its cache"},
    "restart": {"time to recovery"},
}
"""What does not hold any more without a mechanism."""


@pytest.mark.parametrize("off", ["", *NEEDS])
def test_what_a_mechanism_is_for_holds_only_with_it(
    off: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(CONNECT)
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "state"))
    settings = Settings(name=f"demo-r{os.getpid()}", backoff=0.1, **({off: False} if off else {}))
    with demo.up(settings) as d:
        findings = verify(d, settings, patience=10)
    failed = {found.what for found in findings if not found.holds}
    assert failed == NEEDS.get(off, set()), findings
    assert len(findings) == 6
