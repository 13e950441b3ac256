"""Draws the result of a run, as ``chaosd run --json`` or ``--report`` saved it, the way a terminal shows it.

python tools/picture.py result.json docs/run.svg ["the command that was typed"]
"""

import io
import re
import sys
from pathlib import Path

import msgspec
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from chaosd.cli import render
from chaosd.report.fold import View


def main(result: str, picture: str, command: str = "chaosd run") -> None:
    """Render the result into an SVG file."""
    console = Console(record=True, width=96, file=io.StringIO(), highlight=False, force_terminal=True)
    render._console = console  # noqa: SLF001 - the very same drawing code, on paper
    console.print(f"[bold cyan]$[/] {command}\n", soft_wrap=False)
    render.result(msgspec.json.decode(Path(result).read_bytes(), type=View))
    # the reader's own font: the one that rich names would be fetched from elsewhere
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(picture, title="chaosd", code_format=plain.replace("Fira Code, ", "ui-monospace, "))


if __name__ == "__main__":
    main(*sys.argv[1:])
