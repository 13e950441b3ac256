"""Writes docs/report.schema.json, the JSON Schema of `chaosd report --format json`, from its own types.

python tools/report_schema.py          write it
python tools/report_schema.py --check  say whether it is out of date; exit status 1 if it is
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from chaosd.report.model import Report

FILE = Path(__file__).resolve().parents[1] / "docs" / "report.schema.json"


def schema() -> str:
    """The schema as it is to be on disk."""
    said = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | _unwrapped(
        msgspec.json.schema(Report)
    )
    return msgspec.json.format(msgspec.json.encode(said)).decode() + "\n"


def _unwrapped(part: Any) -> Any:
    """The same with descriptions of one line each, where docstrings have many."""
    if isinstance(part, list):
        return [_unwrapped(item) for item in part]
    if not isinstance(part, dict):
        return part
    words = part.get("description")
    said = {"description": " ".join(words.split()).replace("``", "`")} if isinstance(words, str) else {}
    return {key: _unwrapped(value) for key, value in part.items()} | said


def main(*words: str) -> int:
    """Write or check; the exit status."""
    if "--check" not in words:
        FILE.write_text(schema(), "utf-8")
        return 0
    fresh = FILE.exists() and FILE.read_text("utf-8") == schema()
    sys.stdout.write("" if fresh else f"{FILE.name} is out of date: python tools/report_schema.py\n")
    return not fresh


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
