"""A word means on the command line what it means in YAML, and a plain one is read without it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaosd.cli.value import value
from chaosd.document import scalar
from chaosd.errors import ChaosdError

LETTERS = "abeEfinoOrtTuxXyYnN01279_.:-+%/@~#[]{},&*!|>'\"?=< "
PLAIN = ("5%", "0.5%", "100ms", "10mbit", "5432", "-3", "0", "0.25", "true", "false", "tcp", "EIO", "a.b:80")


def told(read: Any, text: str) -> tuple[Any, Any]:
    try:
        found = read(text)
    except ChaosdError as error:
        return ChaosdError, (error.message, error.hint)
    return type(found), repr(found)


@given(st.text() | st.text(LETTERS) | st.from_regex(r"[-+]?[0-9_]*[.:]?[0-9_]*[eE]?[-+]?[0-9a-zA-Z%]*"))
@example("0x1f")
@example("0b1")
@example("010")
@example("1_000")
@example("12:30:45")
@example("2001-12-14")
@example("1e3")
@example("1.5e+3")
@example("No")
@example("NULL")
@example("y")
@example("a: b")
@example("a:")
@example("a #b")
@example("-0")
@example("5.")
@example("a\n")
@example("5\n")
@example("٣")
@example("a---")
def test_a_word_means_what_it_means_in_yaml(text: str) -> None:
    assert told(value, text) == told(scalar, text)


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_word_is_read_without_yaml(text: str) -> None:
    code = f"import sys; from chaosd.cli.value import value; value({text!r}); print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert told(value, text) == told(scalar, text)
