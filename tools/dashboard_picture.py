"""Takes the picture of the dashboard in docs: a run against the booking service, as Chromium shows it.

python tools/dashboard_picture.py [docs/dashboard.png] [--all FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from embedded import busy

from chaosd.demo import Demo, Settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "host"))

import daemonized  # noqa: E402
from devtools import Page, chromium  # noqa: E402
from test_dashboard import dashboard  # noqa: E402

_SETTLED = 9  # seconds of the fault that are to be seen
_SIZES = {"wide": (1280, 800), "phone": (390, 844)}


def main() -> None:
    """Take it, and with --all one of each page, wide and narrow, light and dark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=ROOT / "docs" / "dashboard.png")
    parser.add_argument("--all", type=Path, help="also every page, to look at, in this folder")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        d = stack.enter_context(busy(Settings(), 12))
        daemon = stack.enter_context(daemonized.daemon())
        browser = stack.enter_context(chromium(folder))
        page = browser.page(stack.enter_context(dashboard(daemon)))
        page.until_text("idle", "#link")
        _begin(page, d, args.all)
        page.until(f"(document.querySelector('.p-fault.here progress')?.value ?? 0) > {_SETTLED / 20}")
        page.picture(args.picture)
        if args.all:
            _every(page, args.all)


def _begin(page: Page, d: Demo, folder: Path | None) -> None:
    page.value("location.hash = '#/start/network-latency'")
    settings = {
        "target": f"pid:{d.pids['booking']}",
        "duration": "20s",
        "set-url": d.urls["booking"] + "/quote?room=double",
        "set-from": d.client_netns,
        "set-delay": "200ms",
        "set-jitter": "40ms",
    }
    for key, value in settings.items():
        page.write(f"#f-{key}", value)
    page.click("button", "Preview the plan")
    page.click("#begin")
    page.until("Boolean(document.querySelector('#yes'))")
    if folder:
        _each(page, folder, "plan")
    page.click("#yes")


def _every(page: Page, folder: Path) -> None:
    _each(page, folder, "live")
    run = page.value("location.hash")
    _go(page, "#/")
    _each(page, folder, "now-live")
    page.click("#stop")
    page.until_text("Host restored", "#notices")
    for name, place in (
        ("ended", run),
        ("now", "#/"),
        ("library", "#/library"),
        ("history", "#/history"),
        ("host", "#/host"),
    ):
        _go(page, place)
        _each(page, folder, name)


def _go(page: Page, place: str) -> None:
    page.value(f"location.hash = {place!r}")
    page.until("document.querySelector('h1') && !/Reading|Trying every|Asking/.test(document.body.innerText)")


def _each(page: Page, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for size, (width, height) in _SIZES.items():
        page.resize(width, height)
        for theme in ("light", "dark"):
            page.theme(theme)
            page.until("new Promise((drawn) => setTimeout(() => drawn(true), 700))")
            page.picture(folder / f"{name}-{size}-{theme}.png")
    page.resize(*_SIZES["wide"])
    page.theme("light")


if __name__ == "__main__":
    main()
