"""What a user's probe is compiled from, and which files and parameters are refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.direct import single
from chaosd.errors import ChaosdError
from chaosd.faults.probe_custom import ProbeCustom
from chaosd.kernel import custom_source, probe_process
from chaosd.kernel.custom_probe import CustomProbe
from chaosd.kernel.edit import from_data, to_data

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / 'my "probe".c'
    place.write_text("int kprobe__x(void *ctx) { return 0; }\n", "utf-8")
    place.chmod(0o644)
    return place


def test_the_prelude_stands_in_front_and_lines_are_the_users(source: Path) -> None:
    text = custom_source.compose(custom_source.read(str(source)), (("limit", 3), ("errno", "EIO")))
    prelude, _, rest = text.partition(f'#line 1 "{source.parent}/my \\"probe\\".c"\n')
    assert rest == source.read_text("utf-8") + "\n"
    assert "#include" not in prelude
    assert prelude.endswith("#define PARAM_LIMIT (3LL)\n#define PARAM_ERRNO 5\n")
    for wanted in ("CHAOSD_STRIKES", "CHAOSD_IS_TARGET", "CHAOSD_SAME", "outcome_of", "chaosd_lease"):
        assert wanted in prelude


def test_every_map_of_the_prelude_is_handed_to_it() -> None:
    """A pin that is not there would become a map of bcc's own, which nobody renews or reads."""
    from chaosd.kernel.custom_probe import _MAPS

    pinned = set(
        re.findall(rf"{probe_process.PINS}/(\w+)", (ROOT / "probes/include/prelude.h").read_text("utf-8"))
    )
    assert pinned == {*_MAPS, "lease"}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20))
def test_a_word_means_itself_in_c(word: str) -> None:
    """Whatever stands in it: quotes, backslashes, trigraphs."""
    [define] = custom_source.defines((("name", f"={word}"),)).splitlines()
    literal = define.removeprefix("#define PARAM_NAME ")
    assert literal[0] == literal[-1] == '"'
    decoded = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), literal[1:-1])
    assert decoded == f"={word}"
    assert re.fullmatch(r"(\w|\\[0-7]{3})*", literal[1:-1])


@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang")
def test_parameters_are_what_a_compiler_reads(tmp_path: Path) -> None:
    given: dict[str, int | str] = {
        "a": -(1 << 63),
        "b": (1 << 63) - 1,
        "c": "EPERM",
        "d": 'x??/"\\%',
        "e": -1,
    }
    assert custom_source.wrong_parameters(given) == []
    file = tmp_path / "check.c"
    file.write_text(
        custom_source.defines(tuple(given.items()))
        + '_Static_assert(PARAM_A < 0 && PARAM_A + 1 == -9223372036854775807LL, "");\n'
        + '_Static_assert(PARAM_B == 9223372036854775807LL && PARAM_C == 1 && 1-PARAM_E == 2, "");\n'
        + '_Static_assert(sizeof(PARAM_D) == 8, "");\n',
        "utf-8",
    )
    done = subprocess.run(
        ["clang", "-std=c11", "-Wall", "-fsyntax-only", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"a-b": 1}, "'a-b' is no name for C"),
        ({"1st": 1}, "'1st' is no name for C"),
        ({"a": 1, "A": 2}, "A is there twice"),
        ({"a": ""}, "a word has 1 to 128 printable ASCII characters"),
        ({"a": "x\n#include </etc/shadow>"}, "a word has 1 to 128"),
        ({"a": 1 << 63}, "does not fit into 64 bits"),
    ],
)
def test_parameters_that_cannot_be_macros(parameters: dict[str, int | str], says: str) -> None:
    with pytest.raises(ChaosdError) as raised:
        single("probe.custom", {"source": "x.c", "parameters": parameters}, "pid:1", "1s", None)
    assert says in raised.value.message


def test_fields_that_make_no_sense_are_refused() -> None:
    assert ProbeCustom(source="x.c").check() == []
    for fields in ({}, {"source": ""}, {"source": "x.c", "every": 0}, {"source": "x.c", "probability": "0%"}):
        with pytest.raises(ChaosdError):
            single("probe.custom", fields, "pid:1", "1s", None)


def test_a_source_that_somebody_else_could_have_written_is_refused(source: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    large = tmp_path / "large.c"
    large.write_bytes(b" " * (256 * 1024 + 1))
    binary = tmp_path / "binary.c"
    binary.write_bytes(b"\xff\xfe")
    refused = {
        fifo: "not a regular file",
        tmp_path: "not a regular file",
        large: "larger than",
        binary: "not UTF-8",
    }
    refused[tmp_path / "none.c"] = "No such file"
    for place in (large, binary):
        place.chmod(0o644)
    for place, says in refused.items():
        with pytest.raises(ChaosdError, match=says):
            custom_source.read(str(place))
    for mode in (0o664, 0o646):
        source.chmod(mode)
        with pytest.raises(ChaosdError, match="can be written by others"):
            custom_source.read(str(source))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_source_of_another_user_is_refused_but_not_of_the_one_who_called_sudo(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(source, 65534, 65534)
    monkeypatch.delenv("SUDO_UID", raising=False)
    with pytest.raises(ChaosdError, match="belongs to user 65534"):
        custom_source.read(str(source))
    monkeypatch.setenv("SUDO_UID", "65534")
    assert custom_source.read(str(source)).sha256


def test_the_journal_keeps_path_hash_and_parameters() -> None:
    from chaosd.kernel.cgroup import CgroupRef
    from chaosd.kernel.match import Rule
    from chaosd.kernel.tasks import Members

    members = Members(CgroupRef("/", 1), entire=True)
    edit = CustomProbe("abcdef", 1, members, "/p.c", "00" * 32, (("limit", 3), ("errno", "EIO")), Rule(7))
    assert from_data(to_data(edit)) == edit
    assert hash(edit) == hash(from_data(to_data(edit)))


VERIFIER = """\
bpf: Failed to load program: Invalid argument
0: R1=ctx(off=0,imm=0) R10=fp0
; return *x;
5: (79) r0 = *(u64 *)(r1 +0)
R1 invalid mem access 'scalar'
processed 6 insns (limit 1000000) max_states_per_insn 0

"""


def test_the_reason_is_found_in_what_the_verifier_says() -> None:
    assert probe_process._last(VERIFIER) == "R1 invalid mem access 'scalar'"
    assert probe_process._last("") == ""
