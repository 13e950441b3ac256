"""Writes docs/openapi.json, and the table of endpoints in docs/api.md, from the API's own classes.

python tools/api_pages.py
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaosd.daemon import openapi
from chaosd.daemon.api import ENDPOINTS

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- endpoints, written by tools/api_pages.py -->\n", "<!-- end -->\n"


def table() -> str:
    """A row for each endpoint."""
    rows = [f"| `{each.method} {each.path}` | {each.may} | {each.summary} |\n" for each in ENDPOINTS]
    return "| endpoint | role | |\n| --- | --- | --- |\n" + "".join(rows)


def main() -> None:
    """Write both."""
    described = msgspec.json.format(msgspec.json.encode(openapi.of_all())).decode()
    (DOCS / "openapi.json").write_text(described + "\n", "utf-8")
    page = DOCS / "api.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + BEGIN + table() + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
