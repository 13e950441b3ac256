from pathlib import Path

import pytest

from chaosd.kernel import capability
from chaosd.kernel.capability import Capability, Verdict


@pytest.fixture(autouse=True)
def _own_run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "state"))


def test_what_the_kernel_has_proven_is_not_tried_again() -> None:
    assert Capability("thing", lambda: Verdict(ok=True), lasting=True)().ok
    assert Capability("thing", lambda: Verdict(ok=False), lasting=True)().ok
    assert not Capability("thing", lambda: Verdict(ok=False), lasting=True).attempt().ok
    assert not Capability("thing", lambda: Verdict(ok=False), lasting=True)().ok, "a failure ends the proof"


def test_a_proof_is_of_one_boot_and_leaves_nothing_where_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Capability("thing", lambda: Verdict(ok=True), lasting=True)().ok
    assert not (tmp_path / "run").exists()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["proven"]
    monkeypatch.setattr(capability, "boot_id", lambda: "another")
    assert not Capability("thing", lambda: Verdict(ok=False), lasting=True)().ok


def test_where_nothing_can_be_kept_it_is_tried_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "file" / "state"))
    assert Capability("thing", lambda: Verdict(ok=True), lasting=True)().ok
    assert not Capability("thing", lambda: Verdict(ok=False), lasting=True)().ok


def test_what_depends_on_more_than_the_kernel_is_tried_each_time() -> None:
    """A program can be removed, and systemd be pid 1 in one namespace and not in another."""
    assert Capability("systemd", lambda: Verdict(ok=True))().ok
    assert not Capability("systemd", lambda: Verdict(ok=False))().ok


def test_what_is_missing_is_tried_anew() -> None:
    assert not Capability("netem", lambda: Verdict(ok=False), lasting=True)().ok
    assert Capability("netem", lambda: Verdict(ok=True), lasting=True)().ok
