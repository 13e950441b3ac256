"""Slow edits are done in a thread while signs of life are given; the others, and in emergencies, are not."""

from __future__ import annotations

import time
from threading import get_ident
from typing import ClassVar

import pytest

from chaosd import patience
from chaosd.errors import ChaosdError
from chaosd.kernel.edit import Edit, Undo

threads: list[int] = []


class Quick(Edit, frozen=True):
    def apply(self) -> None:
        threads.append(get_ident())

    def revert(self) -> Undo:
        threads.append(get_ident())
        return Undo.DONE


class Slow(Quick, frozen=True):
    slow: ClassVar[bool] = True

    def revert(self) -> Undo:
        time.sleep(0.35)
        return super().revert()


class Refused(Quick, frozen=True):
    slow: ClassVar[bool] = True

    def apply(self) -> None:
        raise ChaosdError("the kernel says no")


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    threads.clear()


def test_signs_of_life_are_given_while_it_lasts() -> None:
    beats: list[int] = []
    assert patience.revert(Slow(), lambda: beats.append(get_ident())) is Undo.DONE
    assert set(beats) == {get_ident()}
    assert 2 <= len(beats) <= 4
    assert threads != [get_ident()]


def test_what_is_quick_and_what_nobody_waits_for_takes_no_thread() -> None:
    patience.apply(Quick(), lambda: None)
    patience.apply(Slow(), patience.silent)
    assert patience.revert(Slow(), patience.silent) is Undo.DONE
    assert threads == [get_ident()] * 3


def test_an_error_arrives_where_it_is_waited_for() -> None:
    with pytest.raises(ChaosdError, match="the kernel says no"):
        patience.apply(Refused(), lambda: None)


def test_it_is_over_when_a_sign_of_life_fails() -> None:
    def broken() -> None:
        raise OSError("no pulse")

    with pytest.raises(OSError, match="no pulse"):
        patience.revert(Slow(), broken)
    assert len(threads) == 1


def test_no_sign_of_life_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LIMIT", 0.2)
    beats: list[float] = []
    assert patience.revert(Slow(), lambda: beats.append(1)) is Undo.DONE
    assert len(beats) == 2


def test_it_is_done_where_there_are_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(patience._Work, "start", refuse)
    assert patience.revert(Slow(), lambda: None) is Undo.DONE
    assert threads == [get_ident()]
