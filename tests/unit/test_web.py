"""The files of the dashboard: whole, its own, and never reading as HTML what the API tells."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from chaosd.daemon import api

CHAOSD = Path(__file__).parents[2] / "chaosd"
WEB = CHAOSD / "daemon" / "web"
MODULES = sorted(WEB.glob("*.js"))
UPLOT = {  # dist/uPlot.iife.min.js, dist/uPlot.min.css and LICENSE of the package uplot 1.6.32 on npm
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


@pytest.mark.parametrize("name", UPLOT)
def test_uplot_is_as_it_was_published(name: str) -> None:
    found = (CHAOSD / "report" / "assets" / name).read_bytes()
    assert hashlib.sha256(found).hexdigest() == UPLOT[name]


def test_the_page_loads_its_own_files_alone_and_has_nothing_inline() -> None:
    page = (WEB / "index.html").read_text("utf-8")
    loaded = re.findall(r'(?:src|href)="([^#"]+)"', page)
    assert {name.removeprefix("web/") for name in loaded} <= set(api.api_web._FILES)
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page)
    styles = (WEB / "style.css").read_text("utf-8")
    assert "url(" not in styles
    assert "@import" not in styles


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_is_small_imports_what_is_there_and_reads_nothing_as_html(module: Path) -> None:
    text = module.read_text("utf-8")
    assert text.count("\n") <= 300
    for name, other in re.findall(r'import \{([^}]+)\} from "\./([^"]+)"', text):
        exported = set(
            re.findall(
                r"export (?:async )?(?:const|function\*?|class) (\w+)", (WEB / other).read_text("utf-8")
            )
        )
        assert {word.strip() for word in name.split(",")} <= exported, other
        for word in name.split(","):
            assert len(re.findall(rf"\b{word.strip()}\b", text)) > 1, f"{word.strip()} is not used"
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser", text
    )
