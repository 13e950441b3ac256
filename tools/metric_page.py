"""Writes the table of metrics in docs/metrics.md from the metrics themselves.

python tools/metric_page.py
"""

from __future__ import annotations

from pathlib import Path

from chaosd.metrics.table import METRICS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics, written by tools/metric_page.py -->\n", "<!-- end -->\n"


def table() -> str:
    """A row for each metric."""
    rows = ["| metric | kind | labels | |\n| --- | --- | --- | --- |\n"]
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{name}` | {metric.kind} | {labels} | {metric.help} |\n")
    return "".join(rows)


def main() -> None:
    """Write it."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
