import fcntl
import os
from pathlib import Path

import pytest

from chaosd import journal as journals
from chaosd import places, restore
from chaosd.errors import ChaosdError
from chaosd.journal import HostLock, Journal
from chaosd.kernel.edit import Edit, Undo
from chaosd.report.fold import fold


class Note(Edit, frozen=True, tag="test.note"):
    """A file stands for a piece of kernel state."""

    path: str
    fail: bool = False

    @property
    def slot(self) -> str:
        return f"note {self.path}"

    def describe(self) -> str:
        return f"write {self.path}"

    def apply(self) -> None:
        Path(self.path).write_text("x", "ascii")

    def revert(self) -> Undo:
        if self.fail and Path(self.path).exists():
            raise ChaosdError("it will not go")
        existed = Path(self.path).exists()
        Path(self.path).unlink(missing_ok=True)
        return Undo.DONE if existed else Undo.GONE

    def present(self) -> bool:
        return Path(self.path).exists()

    def surroundings(self) -> dict[str, str]:
        return {"files": str(sorted(os.listdir(Path(self.path).parent)))}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("CHAOSD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CHAOSD_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()
    (tmp_path / "things").mkdir()
    return Journal.create("abc123", scenario="s", process={"pid": os.getpid(), "start_time": 1}, plan={})


def test_the_promise_is_on_record_before_the_deed(journal: Journal, tmp_path: Path) -> None:
    journal.intend(Note(str(tmp_path / "things/a")))
    assert [r["type"] for r in journals.read(journal.path)] == ["run", "intend"]
    assert len(journal.open_edits()) == 1


def test_undo_goes_in_reverse_tries_every_one_and_loses_none(journal: Journal, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        note = Note(str(tmp_path / "things" / name), fail=name == "b")
        number = journal.intend(note)
        note.apply()
        journal.applied(number)
    stuck = restore.undo(journal)
    assert stuck == [f"write {tmp_path}/things/b: it will not go"]
    assert [p.name for p in (tmp_path / "things").iterdir()] == ["b"]
    order = [r["n"] for r in journal.records() if r["type"] in ("reverted", "stuck")]
    assert order == [2, 1, 0]
    assert fold(journal.records()).open_edits() == [f"write {tmp_path}/things/b"]


def test_another_process_can_undo_from_the_file_alone(journal: Journal, tmp_path: Path) -> None:
    note = Note(str(tmp_path / "things/a"))
    journal.write("before", state=restore.surroundings([note]))
    journal.intend(note)
    note.apply()
    path = journal.path
    journal.close()
    other = Journal.take_over(path, 0)
    assert other is not None
    assert restore.close_out(other, "killed", "test") == []
    assert not Path(note.path).exists()
    assert not path.exists()
    view = fold(journals.read(places.history_dir() / path.name))
    assert (view.verdict, view.restored["differs"], view.restored["compared"]) == ("killed", [], 1)


def test_a_torn_last_line_does_no_harm(journal: Journal, tmp_path: Path) -> None:
    journal.intend(Note(str(tmp_path / "things/a")))
    path = journal.path
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        other = Journal.take_over(path, 0)
        assert other is not None
        assert len(other.open_edits()) == (1 if cut >= len(whole) - 1 else 0)
        other.intend(Note(str(tmp_path / "things/b")))
        assert other.open_edits()[-1][1]["edit"]["path"].endswith("b")
        other.close()


def test_another_boot_means_the_kernel_state_is_gone(journal: Journal, tmp_path: Path) -> None:
    note = Note(str(tmp_path / "things/a"))
    journal.intend(note)
    note.apply()
    text = journal.path.read_text("utf-8").replace(places.boot_id(), "another-boot")
    journal.path.write_text(text, "utf-8")
    assert restore.undo(journal) == []
    assert Path(note.path).exists(), "nothing is touched: it is not the state the journal speaks of"


def test_an_edit_this_version_cannot_read_stays_open(journal: Journal, tmp_path: Path) -> None:
    journal.intend(Note(str(tmp_path / "things/a")))
    journal.path.write_text(journal.path.read_text("utf-8").replace("test.note", "test.gone"), "utf-8")
    assert len(restore.undo(journal)) == 1
    assert len(journal.open_edits()) == 1


def test_difference_from_before_is_named(journal: Journal, tmp_path: Path) -> None:
    note = Note(str(tmp_path / "things/a"))
    journal.write("before", state=restore.surroundings([note]))
    journal.intend(note)
    (tmp_path / "things/stranger").touch()
    assert restore.differences(journal) == (1, ["files"])


def test_what_was_started_again_is_compared_with_how_it_was_then(journal: Journal, tmp_path: Path) -> None:
    note = Note(str(tmp_path / "things/a"))
    journal.write("before", state=restore.surroundings([note]) | {"gone": {"files": "[]"}})
    journal.intend(note)
    (tmp_path / "things/of the next incarnation").touch()
    journal.write("before", state=restore.surroundings([note]))
    journal.intend(note)
    assert restore.differences(journal) == (1, [])


def test_a_live_journal_is_not_taken_over(journal: Journal) -> None:
    with pytest.raises(ChaosdError, match="held by another process"):
        Journal.take_over(journal.path, 0.05)


def test_a_second_run_is_refused_with_who_holds_the_host(journal: Journal) -> None:
    lock = HostLock("abc123", "network-latency")
    with pytest.raises(ChaosdError, match=rf"abc123 \(network-latency, pid {os.getpid()}\)"):
        HostLock("def456", "other")
    lock.release()
    HostLock("def456", "other").release()


def test_a_full_disk_costs_the_history_its_entry_not_the_run_its_end(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSD_STATE_DIR", "/proc/nowhere")
    place = journal.finish()
    assert place.parent.name == "finished"
    assert journals.live() == []


def test_the_lock_goes_with_its_owner(journal: Journal) -> None:
    pid = os.fork()
    if pid == 0:
        path = places.run_dir() / "child"
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    fd = os.open(places.run_dir() / "child", os.O_RDWR)
    assert journals.try_lock(fd)
    os.close(fd)
