"""The description of the API is valid OpenAPI, and what is in docs/ is what the code says."""

from __future__ import annotations

from pathlib import Path

import msgspec
from openapi_spec_validator import validate

from chaosd.daemon import openapi
from chaosd.daemon.api import ENDPOINTS
from chaosd.daemon.page import kind, page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_description_is_valid_and_complete() -> None:
    made = openapi.of_all()
    validate(made)
    described = {(method.upper(), path) for path, methods in made["paths"].items() for method in methods}
    assert described == {(each.method, each.path) for each in ENDPOINTS}
    operations = [it for methods in made["paths"].values() for it in methods.values()]
    assert len({it["operationId"] for it in operations}) == len(operations)
    assert all(it["summary"].endswith(".") for it in operations)


def test_what_changes_anything_asks_for_the_right_to() -> None:
    harmless = {"/v1/scenarios/validate"}
    for each in ENDPOINTS:
        assert (each.may == "act") == (each.method == "POST" and each.path not in harmless), each.path


def test_the_file_in_docs_is_fresh() -> None:
    text = msgspec.json.format(msgspec.json.encode(openapi.of_all())).decode() + "\n"
    assert (DOCS / "openapi.json").read_text("utf-8") == text, "run tools/api_pages.py"


def test_the_table_in_docs_is_fresh() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    for each in ENDPOINTS:
        assert f"| `{each.method} {each.path}` | {each.may} | {each.summary} |" in text, (
            "run tools/api_pages.py"
        )


def test_the_page_names_every_endpoint_and_type_and_loads_nothing() -> None:
    text = page(openapi.of_all())
    for each in ENDPOINTS:
        assert f"{each.method} {each.path}</h2>" in text
    for name in openapi.of_all()["components"]["schemas"]:
        assert f'id="{name}"' in text
    for loading in ("<script", "src=", "<link", "@import", "url("):
        assert loading not in text


def test_kinds_in_words() -> None:
    assert kind({"type": "array", "items": {"type": "string"}}) == "list of string"
    assert kind({"anyOf": [{"$ref": "#/components/schemas/View"}, {"type": "null"}]}) == "View | null"
    assert kind({"enum": ["html", "json"]}) == "html | json"
    assert kind({"type": "object", "additionalProperties": {"type": "string"}}) == "mapping to string"
    assert kind({}) == "anything"
