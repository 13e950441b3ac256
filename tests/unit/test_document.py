import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosd import document
from chaosd.document import Problems, convert
from chaosd.errors import ChaosdError
from chaosd.units import Duration


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    delay: Duration
    ports: tuple[int, ...] = ()


def test_every_mistake_is_told_at_once_with_its_line() -> None:
    data, lines = document.load("delya: 5s\nports:\n  - 80\n  - http\n", "f.yaml")
    problems = Problems("f.yaml", lines)
    assert document.build(Thing, data, (), problems) is None
    with pytest.raises(ChaosdError) as caught:
        problems.raise_any()
    said = caught.value.message.splitlines()
    assert "f.yaml:1: delya: unknown key (did you mean delay?)" in said
    assert any(line.startswith("f.yaml:2: ports: Expected int, got str") for line in said)
    assert any("delay is missing" in line for line in said)


class Wrong(str):
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> str:
        return text + 1  # type: ignore[operator]


def test_one_item_where_a_list_belongs_is_shown_as_a_list() -> None:
    for value, says in (("openat", "a list such as [openat]"), (53, "[53]"), ("a b", "[1, 2]")):
        with pytest.raises(ChaosdError, match=re.escape(says)):
            convert(value, list[int])


def test_a_mistake_in_reading_a_kind_of_value_is_not_taken_for_one_of_the_user() -> None:
    with pytest.raises(RuntimeError, match="Wrong cannot read a str"):
        document.convert("x", Wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "f:2: not YAML"),
        ("a: 1\na: 2", "f:2: a stands here twice"),
        ("? [1]\n: 2", "f:1: a key must be a word"),
        ("a: &x [*x]", "too large"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_not_a_document(text: str, says: str) -> None:
    with pytest.raises(ChaosdError) as caught:
        document.load(text, "f")
    assert says in caught.value.message


def test_aliases_cannot_blow_up() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    with pytest.raises(ChaosdError, match="too large"):
        document.load(bomb, "f")


def test_a_parameter_keeps_its_type_where_it_stands_alone() -> None:
    problems = Problems("f")
    data = {"ports": ["${port}"], "url": "http://127.0.0.1:${port}/"}
    assert document.substitute(data, {"port": 80}, (), problems) == {
        "ports": [80],
        "url": "http://127.0.0.1:80/",
    }
    assert not problems
    document.substitute("${prot}", {"port": 80}, (), problems)
    with pytest.raises(ChaosdError, match="did you mean port"):
        problems.raise_any()


@settings(deadline=None)
@given(st.text())
def test_no_text_gives_a_traceback(text: str) -> None:
    try:
        document.load(text, "f")
    except ChaosdError as error:
        assert error.message.startswith("f")


def test_a_hint_is_a_line() -> None:
    """The nearest word; all of them where these are few; else where to find them."""
    few, many = ["loss", "delay"], [f"word{n}x" for n in range(40)]
    assert document.near("los", few, "a list") == "did you mean loss?"
    assert document.near("qqq", few, "a list") == "one of delay, loss"
    assert document.near("qqq", many, "a list") == "see: a list"
    assert document.near("word3", many, "a list").startswith("did you mean word3")
