"""The state of a run is what its journal says, and nothing else."""

from chaosd.journal import Record
from chaosd.report.fold import fold

COUNTED = [{"fault": "network.loss", "target": "pid:7", "matched": 9, "injected": 4}]


def _sample(evidence: list[Record]) -> Record:
    return {"type": "sample", "t": 7.5, "checks": {}, "evidence": evidence}


def test_what_was_counted_outlives_the_fault() -> None:
    """Samples of the recovery phase count nothing, for the edits that counted are put back."""
    assert fold([_sample([]), _sample(COUNTED), _sample([])]).evidence == COUNTED


def test_what_an_edit_that_is_put_back_says_of_now_is_not_of_the_fault() -> None:
    """A process that was stopped runs again."""
    running = [COUNTED[0] | {"injected": 0}]
    over: Record = {"type": "phase", "phase": "revert", "t": 8.0}
    assert fold([_sample(running), _sample(COUNTED), over, _sample(running)]).evidence == COUNTED


def test_an_edit_is_open_from_its_promise_until_it_is_put_back() -> None:
    records: list[Record] = [
        {"type": "intend", "n": 0, "says": "write a"},
        {"type": "intend", "n": 1, "says": "write b"},
    ]
    assert fold(records).open_edits() == ["write a", "write b"]
    records += [
        {"type": "stuck", "n": 1, "error": "OSError: busy"},
        {"type": "reverted", "n": 0, "undo": "undone"},
    ]
    assert fold(records).open_edits() == ["write b"]


def test_records_of_a_later_version_are_passed_over() -> None:
    assert (
        fold([{"type": "weather", "sky": "blue"}, {"type": "phase", "phase": "fault", "t": 7.0}]).phase
        == "fault"
    )
