"""What every fault owes: a description, words for every field, a file and a test of its own."""

from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from chaosd.catalog import describe
from chaosd.document import convert
from chaosd.errors import ChaosdError
from chaosd.faults.base import Fault, registry

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", registry().values(), ids=registry().keys())
def test_every_fault_can_be_read_and_explained(kind: type[Fault]) -> None:
    said = describe(kind)
    assert len(said["doc"]) > 20
    assert said["mechanisms"]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in kind.__struct_fields__:
            continue
        if name != "mechanism":
            assert said["fields"][name]["description"], f"{kind.name}.{name} has no description"
        try:
            convert({"no": "field takes a mapping"}, hint)
        except ChaosdError as error:
            assert "is invalid" not in error.message, f"{kind.name}.{name}: {error}"


@pytest.mark.parametrize("kind", registry().values(), ids=registry().keys())
def test_every_fault_is_a_file_of_its_name_with_a_test(kind: type[Fault]) -> None:
    stem = kind.name.replace(".", "_")
    assert kind.__module__ == f"chaosd.faults.{stem}"
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests/host").glob("test_*.py"))
    assert kind.name in tests or kind.__name__ in tests, f"no host test uses {kind.name}"


def test_an_edit_survives_the_journal() -> None:
    from chaosd.kernel.edit import kinds

    tags = [kind.__struct_config__.tag for kind in kinds()]
    assert len(tags) == len(set(tags)) > 10
    assert all(kind.__struct_config__.frozen for kind in kinds())
    assert all(issubclass(kind, msgspec.Struct) for kind in kinds())
